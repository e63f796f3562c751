package pipeline

// This file owns files of bertc calibrate as a compile reads them.

import (
	"fmt"
	"os"

	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/quant"
)

// ReadCalibration reads what says how the matmuls of m are quantised into m.Quant. A file of a
// model of other sizes or with other matmuls is an error, and one of no matmul.
func (m *Model) ReadCalibration(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	c, err := quant.Parse(f)
	if err != nil {
		return fmt.Errorf("%s:%w", file, err)
	}
	if size := m.Size(); c.Model != "" && c.Model != size {
		return fmt.Errorf("%s: it is of a model with %s; %s has %s", file, c.Model, m.Name, size)
	}
	if len(c.Linears) == 0 {
		return fmt.Errorf("%s: it has no line of a matmul: it is no file of bertc calibrate", file)
	}
	before := m.Quant
	m.Quant = c
	if _, err := m.GraphAfter("assign-precision", ir.I8); err != nil {
		m.Quant = before
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}
