package rt

import (
	"errors"
	"fmt"
)

// The errors of calls. Those with values are types, to be found with errors.As.
var (
	// ErrClosed: the model or the session has been closed.
	ErrClosed = errors.New("the model or session is closed")
	// ErrBusy: a session serves one goroutine at a time, and another one is inside.
	ErrBusy = errors.New("the session is in use by another goroutine")
	// ErrNoHead: the package was compiled without a head that makes logits, or the session without
	// room for them.
	ErrNoHead = errors.New("the model has no head that makes logits")
)

// ErrTooLong is a sequence longer than the model's positions.
type ErrTooLong struct{ Sequence, Got, Max int }

func (e ErrTooLong) Error() string {
	return fmt.Sprintf("sequence %d has %d tokens, the model takes at most %d", e.Sequence, e.Got, e.Max)
}

// ErrTooManyTokens is a batch larger than the session.
type ErrTooManyTokens struct{ Got, Max int }

func (e ErrTooManyTokens) Error() string {
	return fmt.Sprintf("batch has %d tokens, the session takes at most %d", e.Got, e.Max)
}

// ErrTooManyRows is a selection larger than the session.
type ErrTooManyRows struct{ Got, Max int }

func (e ErrTooManyRows) Error() string {
	return fmt.Sprintf("%d rows are selected, the session takes at most %d at a time", e.Got, e.Max)
}

// ErrToken is a token id outside the vocabulary.
type ErrToken struct {
	Index     int
	ID        int32
	VocabSize int
}

func (e ErrToken) Error() string {
	return fmt.Sprintf("token %d has id %d, ids are 0..%d", e.Index, e.ID, e.VocabSize-1)
}

// ErrPosition is a position outside the model's tables.
type ErrPosition struct {
	Index    int
	Position int32
	Max      int
}

func (e ErrPosition) Error() string {
	return fmt.Sprintf("token %d has position %d, positions are 0..%d", e.Index, e.Position, e.Max-1)
}

// ErrRow is a selected row that the last batch does not have.
type ErrRow struct {
	Index  int
	Row    int32
	Tokens int
}

func (e ErrRow) Error() string {
	return fmt.Sprintf("selected row %d is token %d, the last batch has %d tokens", e.Index, e.Row, e.Tokens)
}

// ErrBatch is a batch whose parts do not fit together.
type ErrBatch struct{ Reason string }

func (e ErrBatch) Error() string { return "batch: " + e.Reason }

// ErrOptions is an option that cannot be met.
type ErrOptions struct{ Reason string }

func (e ErrOptions) Error() string { return "options: " + e.Reason }

// ErrWeights is a weight file that cannot be used.
type ErrWeights struct{ Path, Reason string }

func (e ErrWeights) Error() string { return fmt.Sprintf("weight file %s: %s", e.Path, e.Reason) }

// ErrModule is a defect of the generated tables.
type ErrModule struct{ Module, Reason string }

func (e ErrModule) Error() string { return fmt.Sprintf("module %s: %s", e.Module, e.Reason) }

// ErrStep is a step that failed while running: a defect of a kernel, or a weight file that was
// cut or became unreadable while it was mapped.
type ErrStep struct {
	Step  string
	Cause any
}

func (e ErrStep) Error() string { return fmt.Sprintf("step %s failed: %v", e.Step, e.Cause) }
