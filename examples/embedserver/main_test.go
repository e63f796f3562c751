package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"example.com/embedserver/tinybert"
)

// TestQueue: requests at the same time have the same answers as one at a time, and a bad text fails
// alone.
func TestQueue(t *testing.T) {
	m, err := tinybert.Open("tinybert/model.weights")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	q := &queue{model: m, jobs: make(chan job)}
	go q.run(ctx)
	ask := func(body string) (int, string) {
		w := httptest.NewRecorder()
		q.ServeHTTP(w, httptest.NewRequest("POST", "/embed", strings.NewReader(body)))
		return w.Code, w.Body.String()
	}
	const n = 50
	body := func(i int) string {
		return fmt.Sprintf(`{"texts":["%sです。","短い"]}`, strings.Repeat("長い文", i))
	}
	var alone [n]string
	for i := range n {
		code, text := ask(body(i))
		if code != http.StatusOK {
			t.Fatalf("%d: %s", code, text)
		}
		alone[i] = text
	}
	var wait sync.WaitGroup
	for i := range n {
		wait.Add(2)
		go func() {
			defer wait.Done()
			if code, text := ask(body(i)); code != http.StatusOK || text != alone[i] {
				t.Errorf("request %d has another answer among others: %d", i, code)
			}
		}()
		go func() {
			defer wait.Done()
			if code, text := ask(`{"texts":[""]}`); code != http.StatusBadRequest || !strings.Contains(text, "empty") {
				t.Errorf("an empty text: %d, %s", code, text)
			}
		}()
	}
	wait.Wait()
}
