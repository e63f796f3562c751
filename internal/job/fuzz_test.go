package job

import (
	"bytes"
	"encoding/json"
	"io"
	"testing"
)

// FuzzReader: whatever the input, a reader ends, numbers its records, and gives each either an
// error or input that is JSON of the task.
func FuzzReader(f *testing.F) {
	for task := range fields {
		for _, format := range Formats {
			f.Add(format, task, []byte("{\"text\":\"a\",\"pair\":null}\n\"b\"\n\n\xff\n"))
			f.Add(format, task, []byte("id,text,pair,question,context,prompt,choice0,choice1\n1,a,,q,\"c\nd\",p,x,\n"))
		}
	}
	f.Fuzz(func(t *testing.T, format, task string, data []byte) {
		r, err := NewReader(bytes.NewReader(data), format, task, nil)
		if err != nil {
			return
		}
		for number := 1; ; number++ {
			rec, err := r.Next()
			if err == io.EOF {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if number > len(data)+1 {
				t.Fatalf("%d records in %d bytes", number, len(data))
			}
			if rec.Number != number || (rec.Err == nil) != json.Valid(rec.Input) {
				t.Fatalf("record %d: %+v", number, rec)
			}
		}
	})
}

// FuzzEachLine: lines that are cut or spoiled are an error or left out, never a panic.
func FuzzEachLine(f *testing.F) {
	f.Add([]byte("{\"record\":1,\"result\":{}}\n{\"record\":2,\"error\":\"x\"}\n{\"rec"))
	f.Fuzz(func(t *testing.T, data []byte) {
		size := 0
		if err := eachLine(bytes.NewReader(data), func(_ Line, n int) error { size += n; return nil }); err == nil && size > len(data) {
			t.Fatalf("%d bytes of %d", size, len(data))
		}
	})
}
