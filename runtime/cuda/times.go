package cuda

import (
	"fmt"
	"time"
)

// This file owns the measurement of single steps, for the benchmark.

// StepTime is the mean time of a step of the encoder.
type StepTime struct {
	Step int
	Time time.Duration
}

// Times runs the launches of each kernel of the encoder by themselves, so many times in a row, for
// a batch of the size of ids and starts, and returns the time of one run: of the first step of each
// kernel. The stream is full all the while, so that the time is that of the device, not of the
// launch. The hidden states of the session are not valid after it.
func (s *Session) Times(ids, positions, starts []int32, repeat int) ([]StepTime, error) {
	if err := s.Encode(ids, positions, starts); err != nil {
		return nil, err
	}
	ph, err := s.phase(encode, len(ids), len(starts)-1)
	if err != nil {
		return nil, err
	}
	var out []StepTime
	seen := map[int]bool{}
	for i := 0; i < len(ph.calls); {
		step, begin := ph.calls[i].step, i
		for i < len(ph.calls) && ph.calls[i].step == step {
			i++
		}
		k := s.model.step(step).Kernel
		if seen[k] {
			continue
		}
		seen[k] = true
		took, err := s.time(ph.calls[begin:i], repeat)
		if err != nil {
			return nil, err
		}
		out = append(out, StepTime{step, took})
	}
	return out, nil
}

// time runs launches so many times as one graph, twice, and returns the mean of the second.
func (s *Session) time(calls []call, repeat int) (took time.Duration, err error) {
	graph, err := s.stream.Capture(func() error {
		for range repeat {
			for i := range calls {
				if err := s.start(&calls[i]); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	defer func() { err = first(err, s.stream.FreeGraph(graph)) }()
	for range 2 {
		begin := time.Now()
		err := s.stream.LaunchGraph(graph)
		if err == nil {
			err = s.stream.Sync()
		}
		if err != nil {
			return 0, fmt.Errorf("step %s: %w", s.model.step(calls[0].step).Name, err)
		}
		took = time.Since(begin) / time.Duration(repeat)
	}
	return took, nil
}
