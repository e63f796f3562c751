package main

import (
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"github.com/bertc/bertc/internal/job"
)

// bar is a progress bar on a terminal, and nothing anywhere else.
type bar struct {
	progress *mpb.Progress
	bar      *mpb.Bar
}

func newBar(w io.Writer, name string) *bar {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return &bar{}
	}
	p := mpb.New(mpb.WithOutput(w), mpb.WithWidth(40))
	return &bar{progress: p, bar: p.AddBar(0,
		mpb.PrependDecorators(decor.Name(name+" "), decor.CountersKibiByte("% .1f / % .1f")),
		mpb.AppendDecorators(decor.Percentage(decor.WCSyncSpace), decor.Name(" "), decor.AverageETA(decor.ET_STYLE_GO)),
		mpb.BarRemoveOnComplete())}
}

// newJobBar is a bar of a job over an input of so many bytes, 0 when that is not known: records,
// their rate, and the time that is left.
func newJobBar(w io.Writer, name string, size int64) *jobBar {
	b := &jobBar{bar: &bar{}, size: size, start: time.Now()}
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return b
	}
	b.progress = mpb.New(mpb.WithOutput(w), mpb.WithWidth(40))
	b.bar.bar = b.progress.AddBar(size,
		mpb.PrependDecorators(decor.Name(name+" "), decor.Any(func(decor.Statistics) string {
			done, failed := b.records.Load(), b.failed.Load()
			text := fmt.Sprintf("%d records, %.0f/s", done, float64(done)/time.Since(b.start).Seconds())
			if failed > 0 {
				text += fmt.Sprintf(", %d failed", failed)
			}
			return text
		})),
		mpb.AppendDecorators(decor.Percentage(decor.WCSyncSpace), decor.Name(" "), decor.AverageETA(decor.ET_STYLE_GO)),
		mpb.BarRemoveOnComplete())
	return b
}

type jobBar struct {
	*bar
	size            int64
	start           time.Time
	records, failed atomic.Int64 // of this run
}

func (b *jobBar) job(s job.Summary) {
	b.records.Store(int64(s.Records - s.Before))
	b.failed.Store(int64(s.Failed))
	if b.size > 0 {
		b.set(s.Bytes, b.size)
	}
}

func (b *bar) set(done, total int64) {
	if b.bar != nil {
		b.bar.SetTotal(total, false)
		b.bar.SetCurrent(done)
	}
}

func (b *bar) done() {
	if b.bar != nil {
		b.bar.SetTotal(-1, true)
		b.bar.Abort(true)
		b.progress.Wait()
		b.bar = nil
	}
}
