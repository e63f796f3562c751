package main

// This file owns the files that commands write.

import (
	"bufio"
	"fmt"
	"os"

	"github.com/bertc/bertc/internal/staging"
)

// checkOut reports before the work why the file that a flag names cannot be written; "" is no file. in is
// what is read.
func checkOut(flag, path, in string) error {
	if path == "" {
		return nil
	}
	if err := checkOther(flag, path, in); err != nil {
		return err
	}
	if err := staging.CheckFile(path); err != nil {
		return fmt.Errorf("%s %w", flag, err)
	}
	return nil
}

// checkOther reports that the file to be written is the one that is read.
func checkOther(flag, path, in string) error {
	to, err := os.Stat(path)
	if err != nil {
		return nil
	}
	if from, err := os.Stat(in); err == nil && os.SameFile(to, from) {
		return fmt.Errorf("%s %s: is the file that is read", flag, path)
	}
	return nil
}

// writeFile writes a file through a buffer, completely or not at all.
func writeFile(path string, write func(*bufio.Writer) error) error {
	return staging.File(path, func(f *os.File) error {
		w := bufio.NewWriter(f)
		if err := write(w); err != nil {
			return err
		}
		return w.Flush()
	})
}
