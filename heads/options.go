package heads

// This file owns the options that all tasks share.

import "fmt"

// Long says what happens to an input with more tokens than the model takes.
type Long string

// The policies for long input.
const (
	LongError          Long = ""                // the input is an error
	LongTruncate       Long = "truncate"        // the longer text loses tokens at its end, then both
	LongTruncateSecond Long = "truncate_second" // the second text of a pair loses tokens at its end
	LongWindow         Long = "window"          // the text, or the second of a pair, is read in windows
)

// Unit is what offsets into a text count.
type Unit string

// The units of offsets.
const (
	CodePoints Unit = ""      // Unicode code points
	UTF16      Unit = "utf16" // 16-bit units of UTF-16, as JavaScript and Java count
	Bytes      Unit = "bytes" // bytes of UTF-8, as Go slices strings
)

// DefaultBatchTokens is the tokens of a batch where Options say nothing: enough to keep the
// kernels busy, and its hidden states stay in the caches nearest to memory.
const DefaultBatchTokens = 2048

// Options are shared by all tasks that take text. The zero value is right for most programs.
type Options struct {
	// Long is the policy for input of more than MaxLength tokens, special tokens included.
	// MaxLength 0 is the model's limit.
	Long      Long
	MaxLength int
	// Stride is how many tokens a window shares with the one before it; 0 is a quarter of the
	// tokens of a window.
	Stride int
	// Unit is what offsets count.
	Unit Unit
	// BatchTokens is how many tokens are computed at a time; 0 is DefaultBatchTokens. It changes
	// memory and speed, never results.
	BatchTokens int
}

// Check reports the first option that is not valid. limit is the longest sequence of the model,
// windows whether the task can merge windows.
func (o Options) Check(limit int, windows bool) error {
	switch o.Long {
	case LongError, LongTruncate, LongTruncateSecond:
	case LongWindow:
		if !windows {
			return fmt.Errorf("long input %q: only tagging and question answering merge windows", o.Long)
		}
	default:
		return fmt.Errorf("long input %q: not a policy (truncate, truncate_second, window, or nothing for an error)", o.Long)
	}
	switch o.Unit {
	case CodePoints, UTF16, Bytes:
	default:
		return fmt.Errorf("unit %q: not a unit of offsets (utf16, bytes, or nothing for code points)", o.Unit)
	}
	if o.MaxLength < 0 || o.MaxLength > limit {
		return fmt.Errorf("maximum length %d: must be 1 to %d, or 0 for %d", o.MaxLength, limit, limit)
	}
	if o.Stride < 0 {
		return fmt.Errorf("stride %d: must not be negative", o.Stride)
	}
	if o.BatchTokens < 0 {
		return fmt.Errorf("batch tokens %d: must not be negative", o.BatchTokens)
	}
	return nil
}

// TooLong is an input with more tokens than allowed, special tokens included.
type TooLong struct{ Got, Max int }

func (e TooLong) Error() string {
	return fmt.Sprintf("the input has %d tokens, at most %d are allowed", e.Got, e.Max)
}
