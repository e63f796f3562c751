package rt

import (
	"context"
	"errors"
	"slices"
	"testing"
)

func TestInputErrors(t *testing.T) {
	m := newTestModel(shapes["f32/rmsnorm"], 12)
	s := newSession(t, m.open(t, Options{}), SessionOptions{MaxTokens: 300, MaxPicked: 2})
	many := make([]int32, 301)
	for _, c := range []struct {
		name                    string
		ids, positions, offsets []int32
		want                    error
	}{
		{"too many tokens", many, nil, []int32{0, 150, 301}, ErrTooManyTokens{301, 300}},
		{"too long", many[:258], nil, []int32{0, 1, 258}, ErrTooLong{1, 257, 256}},
		{"id too large", []int32{1, 70}, nil, []int32{0, 2}, ErrToken{1, 70, 70}},
		{"id negative", []int32{-1}, nil, []int32{0, 1}, ErrToken{0, -1, 70}},
		{"no offsets", []int32{1}, nil, nil, ErrBatch{"offsets must go from 0 to 1, the number of tokens"}},
		{"offsets from 1", []int32{1, 2}, nil, []int32{1, 2}, ErrBatch{"offsets must go from 0 to 2, the number of tokens"}},
		{"offsets to 1", []int32{1, 2}, nil, []int32{0, 1}, ErrBatch{"offsets must go from 0 to 2, the number of tokens"}},
		{"empty sequence", []int32{1, 2}, nil, []int32{0, 1, 1, 2}, ErrBatch{"sequence 1 begins at token 1 and ends at 1: it must have tokens"}},
		{"offsets go back", []int32{1, 2}, nil, []int32{0, 2, -1, 2}, ErrBatch{"sequence 1 begins at token 2 and ends at -1: it must have tokens"}},
		{"positions", []int32{1, 2}, []int32{0}, []int32{0, 2}, ErrBatch{"1 positions for 2 tokens"}},
		{"position too large", []int32{1, 2}, []int32{0, 256}, []int32{0, 2}, ErrPosition{1, 256, 256}},
		{"position negative", []int32{1, 2}, []int32{-1, 0}, []int32{0, 2}, ErrPosition{0, -1, 256}},
		{"empty batch", nil, nil, nil, nil},
		{"no sequences", nil, nil, []int32{0}, nil},
	} {
		if err := s.Encode(context.Background(), c.ids, c.positions, c.offsets); err != c.want {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
		if len(s.Hidden()) != 0 {
			t.Errorf("%s: hidden states", c.name)
		}
	}
	if err := s.Encode(context.Background(), []int32{1, 2, 3}, nil, []int32{0, 3}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		rows []int32
		want error
	}{
		{[]int32{0, 1, 2}, ErrTooManyRows{3, 2}},
		{[]int32{0, 3}, ErrRow{1, 3, 3}},
		{[]int32{-1}, ErrRow{0, -1, 3}},
		{nil, nil},
		{[]int32{2, 2}, nil},
	} {
		logits, err := s.Logits(context.Background(), c.rows)
		if err != c.want || err == nil && len(logits) != len(c.rows)*m.vocab {
			t.Errorf("rows %v: got %d logits, %v, want %v", c.rows, len(logits), err, c.want)
		}
	}
}

// Positions that count from 0 are the default.
func TestPositions(t *testing.T) {
	m := newTestModel(shapes["f32/layernorm"], 13)
	s := newSession(t, m.open(t, Options{}), SessionOptions{})
	ids, offsets := join(m.sequences(13, 3, 2))
	run := func(positions []int32) []float32 {
		if err := s.Encode(context.Background(), ids, positions, offsets); err != nil {
			t.Fatal(err)
		}
		return slices.Clone(s.Hidden())
	}
	plain := run(nil)
	if !slices.Equal(plain, run([]int32{0, 1, 2, 0, 1})) {
		t.Error("explicit positions give other bits")
	}
	if slices.Equal(plain, run([]int32{0, 1, 2, 5, 9})) {
		t.Error("other positions give the same bits")
	}
}

func TestBusy(t *testing.T) {
	m := newTestModel(shapes["f32/rmsnorm"], 14)
	var s *Session
	var errs [3]error
	s = newSession(t, m.open(t, Options{}), SessionOptions{Observe: func(int, string, int, []byte) {
		errs[0] = s.Encode(context.Background(), nil, nil, nil)
		_, errs[1] = s.Logits(context.Background(), nil)
		errs[2] = s.Close()
	}})
	if err := s.Encode(context.Background(), []int32{1}, nil, []int32{0, 1}); err != nil {
		t.Fatal(err)
	}
	for i, err := range errs {
		if !errors.Is(err, ErrBusy) {
			t.Errorf("call %d: got %v", i, err)
		}
	}
	s.Close()
	if err := s.Encode(context.Background(), nil, nil, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: got %v", err)
	}
}

func TestMemoryPlan(t *testing.T) {
	m := newTestModel(shapes["f32/rmsnorm"], 15)
	model := m.open(t, Options{})
	perToken, perPicked := 0, 0
	for _, b := range m.mod.Buffers {
		if b.Extent == Tokens {
			perToken += b.RowBytes
		} else {
			perPicked += b.RowBytes
		}
	}
	p := model.MemoryPlan(SessionOptions{MaxTokens: 33, MaxPicked: 5})
	if p.Tokens != 48*perToken || p.Picked != 16*perPicked || p.Tables != 2*192 || p.Scratch != model.scratch {
		t.Errorf("got %+v", p)
	}
	if p.Total() != p.Tokens+p.Picked+p.Tables+p.Scratch {
		t.Errorf("total %d of %+v", p.Total(), p)
	}
	if _, err := model.NewSession(SessionOptions{MaxTokens: 1025}); err != (ErrTooManyTokens{1025, 1024}) {
		t.Errorf("got %v", err)
	}
}
