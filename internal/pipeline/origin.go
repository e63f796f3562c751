package pipeline

// This file owns telling whether a package is of a model.

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/bertc/bertc/checkpoint"
	"github.com/bertc/bertc/emit"
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/passes"
	"github.com/bertc/bertc/program"
)

// CheckPackage returns an error unless the package in dir was compiled from m, with whatever
// numerics: the weights are packed again by the recipes of its program, and must have the checksums
// of its manifest. A weight that a calibration changed is left out: the package has no copy of it.
func (m *Model) CheckPackage(ctx context.Context, dir string) error {
	p, err := readProgram(dir)
	if err != nil {
		return err
	}
	file := filepath.Join(dir, ManifestFile)
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var has manifest
	if err := json.Unmarshal(text, &has); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	own, err := m.Program(passes.Options{Math: ir.F32})
	if err != nil {
		return err
	}
	for i, w := range p.Weights {
		if o := own.Weight(w.Name); w.Rope != nil && o != nil {
			p.Weights[i].Rope = o.Rope // of no tensor, but of config.json
		}
	}
	recipes := slices.DeleteFunc(p.Weights, func(w program.Weight) bool {
		return slices.ContainsFunc(w.Parts, func(part program.Part) bool { return len(part.Factors) > 0 })
	})
	made, err := checkpoint.Pack(ctx, nowhere{}, m.Checkpoint, recipes, checkpoint.PackOptions{
		Blobs: map[string][]byte{emit.TokenizerBlob: m.Tokenizer, emit.DenseBlob: m.Sentence.Dense},
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("%s is not a package of model %s: %w", dir, m.Name, err)
	}
	for _, w := range made.Weights {
		i := slices.IndexFunc(has.Weights, func(h checkpoint.PackedWeight) bool { return h.Name == w.Name })
		if i < 0 || has.Weights[i].CRC32C != w.CRC32C {
			return fmt.Errorf("%s is not a package of model %s: weight %q differs", dir, m.Name, w.Name)
		}
	}
	return nil
}

// readProgram returns the program of the package in dir, from its plan.txt.
func readProgram(dir string) (*program.Program, error) {
	file := filepath.Join(dir, planFile)
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	p, err := program.Parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return p, program.Verify(p)
}

// nowhere takes what only its checksum is wanted of.
type nowhere struct{}

func (nowhere) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
