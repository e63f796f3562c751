package pipeline

import (
	"io"
	"testing"

	"github.com/bertc/bertc/checkpoint"
)

func writeTensors(t testing.TB, path string, infos []checkpoint.Info, data [][]byte) {
	err := checkpoint.WriteFile(path, infos, func(i int, w io.Writer) error {
		_, err := w.Write(data[i])
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
