// Command embedserver serves embeddings over HTTP:
//
//	curl -d '{"texts":["私は学校に行きます。"]}' http://localhost:8080/embed
//
// Requests that arrive at about the same time are computed as one batch. A text has the same
// vector, bit for bit, whatever it shares a batch with.
//
// The package tinybert is generated: run go generate with bertc in PATH.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"log"
	"net/http"
	"os"
	"os/signal"
	"time"

	"example.com/embedserver/tinybert"
)

//go:generate bertc compile --model ../../models/tiny --out tinybert

func main() {
	log.SetFlags(0)
	addr := flag.String("addr", "localhost:8080", "address to listen on")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := serve(ctx, *addr); err != nil {
		log.Fatal(err)
	}
}

func serve(ctx context.Context, addr string) error {
	m, err := tinybert.Open("tinybert/model.weights")
	if err != nil {
		return err
	}
	defer m.Close()
	q := &queue{model: m, jobs: make(chan job)}
	go q.run(ctx)
	mux := http.NewServeMux()
	mux.Handle("POST /embed", q)
	server := &http.Server{Addr: addr, Handler: mux, ReadTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { server.Shutdown(context.Background()) })
	log.Printf("listening on http://%s", addr)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// A batch is complete when it has maxTexts texts, or maxWait after its first one.
const (
	maxTexts = 64
	maxWait  = 2 * time.Millisecond
	maxBody  = 1 << 20
)

// job is a text that waits for its vector.
type job struct {
	text string
	done chan<- answer
}

type answer struct {
	vector []float32
	err    error
}

// queue collects texts into batches.
type queue struct {
	model *tinybert.Model
	jobs  chan job
}

func (q *queue) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case first := <-q.jobs:
			q.compute(ctx, q.collect(first))
		}
	}
}

// collect waits for more texts.
func (q *queue) collect(first job) []job {
	jobs := []job{first}
	full := time.After(maxWait)
	for len(jobs) < maxTexts {
		select {
		case j := <-q.jobs:
			jobs = append(jobs, j)
		case <-full:
			return jobs
		}
	}
	return jobs
}

func (q *queue) compute(ctx context.Context, jobs []job) {
	texts := make([]string, len(jobs))
	for i, j := range jobs {
		texts[i] = j.text
	}
	vectors, err := q.model.EmbedBatch(ctx, texts, tinybert.EmbedOptions{Normalize: true})
	failed := map[int]error{}
	var items tinybert.BatchError
	if errors.As(err, &items) { // the texts of others are not at fault
		for _, item := range items {
			failed[item.Index] = item.Err
		}
		err = nil
	}
	for i, j := range jobs {
		a := answer{err: err}
		if err == nil {
			a = answer{vectors[i].Vector, failed[i]}
		}
		j.done <- a
	}
}

func (q *queue) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var request struct {
		Texts []string `json:"texts"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&request); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	answers := make([]chan answer, len(request.Texts))
	for i, text := range request.Texts {
		answers[i] = make(chan answer, 1)
		select {
		case q.jobs <- job{text, answers[i]}:
		case <-r.Context().Done():
			return
		}
	}
	response := struct {
		Vectors [][]float32 `json:"vectors"`
	}{[][]float32{}}
	for _, done := range answers {
		a := <-done
		if a.err != nil {
			http.Error(w, a.err.Error(), http.StatusBadRequest)
			return
		}
		response.Vectors = append(response.Vectors, a.vector)
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(response)
}
