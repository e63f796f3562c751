package checkpoint

// This file owns comparing a checkpoint with the list of tensors that its model needs.

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// Want is one tensor that a model needs, by canonical name. An optional one may be missing.
type Want struct {
	Name     string
	Shape    []int
	Optional bool
}

// Check reports the first wanted tensor that is missing or has another shape, or the first
// tensor that nobody wants. Data is not looked at.
func (c *Checkpoint) Check(wants []Want) error {
	wanted := map[string]bool{}
	for _, w := range wants {
		wanted[w.Name] = true
		shape, ok := c.Shape(w.Name)
		if !ok && w.Optional {
			continue
		}
		if !ok {
			return fmt.Errorf("%s is missing, expected shape %v", c.Where(w.Name), w.Shape)
		}
		if !slices.Equal(shape, w.Shape) {
			return fmt.Errorf("%s: expected shape %v, found %v", c.Where(w.Name), w.Shape, shape)
		}
	}
	for _, name := range c.names {
		if !wanted[name] {
			return fmt.Errorf("%s has no place in the model that config.json describes", c.Where(name))
		}
	}
	return nil
}

// detectCopiedBias warns of checkpoints of the first release of RetrievaBERT (v1.0), whose
// conversion had copied every gate_proj.bias into up_proj.bias.
func (c *Checkpoint) detectCopiedBias() {
	layers := 0
	for _, up := range c.names {
		gate := strings.Replace(up, ".up_proj.bias", ".gate_proj.bias", 1)
		if gate == up {
			continue
		}
		layers++
		a, errA := c.Tensor(up)
		b, errB := c.Tensor(gate)
		if errA != nil || errB != nil || a.DType != b.DType || !bytes.Equal(a.Data, b.Data) || allZero(a.Data) {
			return
		}
	}
	if layers > 0 {
		c.warnings = append(c.warnings, fmt.Sprintf("%s: mlp.up_proj.bias equals mlp.gate_proj.bias in all %d layers, the fault of RetrievaBERT v1.0: use the weights of v1.0.1 or later", c.dir.dir, layers))
	}
}

func allZero(b []byte) bool { return len(bytes.TrimLeft(b, "\x00")) == 0 }
