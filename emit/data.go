package emit

import "github.com/bertc/bertc/program"

// data is what the templates read.
type data struct {
	Options
	Header           string
	HasHead          bool
	Hidden, Vocab    int
	MaxTokens, Steps int
	Kernels          int
	WeightTotal      int64
}

func newData(p *program.Program, o Options) data {
	d := data{
		Options: o, Header: header(o),
		HasHead: p.Buffer("logits") != nil,
		Hidden:  p.Buffer("hidden").Cols(), Vocab: o.VocabSize,
		MaxTokens: p.Symbols[0].Max, Steps: len(p.Steps), Kernels: len(p.Kernels),
	}
	for _, n := range o.WeightBytes {
		d.WeightTotal += int64(n)
	}
	return d
}

// templates lists the templates that this model needs.
func (d data) templates() []string {
	ts := []string{"doc.go.tmpl", "model.go.tmpl", "session.go.tmpl", "model_test.go.tmpl"}
	if d.HasTokenizer {
		ts = append(ts, "text.go.tmpl")
	}
	if d.HasTokenizer && d.HasHead {
		ts = append(ts, "fill_mask.go.tmpl")
	}
	return ts
}
