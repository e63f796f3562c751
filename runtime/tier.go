package rt

import (
	"fmt"
	"slices"
	"strings"
)

// This file chooses the kernel set of a model: the best tier that the CPU can run.

// PortableTier is the name of the kernels in Go that run everywhere.
const PortableTier = "portable"

// Rejected is a tier that is not used, and why.
type Rejected struct{ Tier, Reason string }

func (r Rejected) String() string { return r.Tier + ": " + r.Reason }

// chooseTier returns the first tier of mod that can run here and avoids no trait that the CPU has, or
// the one that want names.
func chooseTier(mod *Module, want string, has func(trait string) bool) (Tier, []Rejected, error) {
	var rejected []Rejected
	var usable []Tier
	for _, t := range mod.Tiers {
		if lacks := missing(t.Features); len(lacks) > 0 {
			rejected = append(rejected, Rejected{t.Name, "the CPU or the operating system lacks " + strings.Join(lacks, ", ")})
			continue
		}
		if fault := selfTest(t.Features); fault != "" {
			rejected = append(rejected, Rejected{t.Name, fault})
			continue
		}
		usable = append(usable, t)
	}
	usable = append(usable, portableTier(mod))
	for i := 0; want == ""; i++ { // the portable tier avoids nothing
		if trait, avoided := avoids(usable[i], has); avoided {
			rejected = append(rejected, Rejected{usable[i].Name, "slower than the next on this CPU (" + trait + ")"})
		} else {
			want = usable[i].Name
		}
	}
	for i, t := range usable {
		if t.Name != want {
			continue
		}
		for _, u := range usable[:i] {
			if _, avoided := avoids(u, has); !avoided {
				rejected = append(rejected, Rejected{u.Name, "the options ask for " + want})
			}
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

// avoids returns the trait for which a tier is not chosen by itself.
func avoids(t Tier, has func(string) bool) (trait string, avoided bool) {
	i := slices.IndexFunc(t.Avoid, has)
	if i < 0 {
		return "", false
	}
	return t.Avoid[i], true
}
