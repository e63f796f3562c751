package rt

import (
	"fmt"
	"strings"
)

// This file chooses the kernel set of a model: the best tier that the CPU can run.

// PortableTier is the name of the kernels in Go that run everywhere.
const PortableTier = "portable"

// Rejected is a tier that is not used, and why.
type Rejected struct{ Tier, Reason string }

func (r Rejected) String() string { return r.Tier + ": " + r.Reason }

// chooseTier returns the first tier of mod that can run here, or the one that want names.
func chooseTier(mod *Module, want string) (Tier, []Rejected, error) {
	var rejected []Rejected
	var usable []Tier
	for _, t := range mod.Tiers {
		if lacks := missing(t.Features); len(lacks) > 0 {
			rejected = append(rejected, Rejected{t.Name, "the CPU or the operating system lacks " + strings.Join(lacks, ", ")})
			continue
		}
		usable = append(usable, t)
	}
	usable = append(usable, portableTier(mod))
	if want == "" {
		want = usable[0].Name
	}
	for i, t := range usable {
		if t.Name != want {
			continue
		}
		for _, u := range usable[:i] {
			rejected = append(rejected, Rejected{u.Name, "the options ask for " + want})
		}
		for _, u := range usable[i+1:] {
			rejected = append(rejected, Rejected{u.Name, want + " is better"})
		}
		return t, rejected, nil
	}
	var names, reasons []string
	for _, u := range usable {
		names = append(names, u.Name)
	}
	for _, r := range rejected {
		reasons = append(reasons, r.String())
	}
	text := fmt.Sprintf("no kernels %q, available are %s", want, strings.Join(names, ", "))
	if len(reasons) > 0 {
		text += " (" + strings.Join(reasons, "; ") + ")"
	}
	return Tier{}, nil, ErrOptions{text}
}
