package autotune

// This file owns records: their format, and looking plans up in them.

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/bertc/bertc/kernel"
	"github.com/bertc/bertc/program"
)

// Record is one candidate at one number of tokens: a line of a records file.
type Record struct {
	Machine  string  `json:"machine"` // hw.Fingerprint, or Fingerprint of a GPU
	Threads  int     `json:"threads"` // 0 for a GPU
	Target   string  `json:"target"`
	Spec     string  `json:"spec"`
	Plan     string  `json:"plan"`
	Tokens   int     `json:"tokens"`
	MedianNS int64   `json:"median_ns"` // of one step of the kernel
	Samples  []int64 `json:"samples_ns"`
	Verified bool    `json:"verified"` // the results equal those of the other plans, bit for bit; on a GPU: tuner.verifyDevice
	Date     string  `json:"date"`
	Version  string  `json:"version"` // of bertc
}

// builtin are the records that ship with bertc, one file a machine class.
//
//go:embed records
var builtin embed.FS

// Records is a set of records, to look plans up in.
type Records struct{ list []Record }

// Builtin returns the records that ship with bertc.
func Builtin() (*Records, error) {
	r := &Records{}
	entries, err := builtin.ReadDir("records")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if path.Ext(e.Name()) != ".jsonl" {
			continue
		}
		data, err := builtin.ReadFile("records/" + e.Name())
		if err != nil {
			return nil, err
		}
		if err := r.add(e.Name(), data); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// AddFile adds the records of a file.
func (r *Records) AddFile(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return r.add(file, data)
}

func (r *Records) add(file string, data []byte) error {
	n := 0
	for line := range bytes.Lines(data) {
		n++
		var rec Record
		if err := json.Unmarshal(line, &rec); err != nil {
			return fmt.Errorf("%s:%d: not a tuning record: %w", file, n, err)
		}
		if rec.MedianNS < 1 || rec.Tokens < 1 {
			return fmt.Errorf("%s:%d: a tuning record needs tokens and median_ns, found %d and %d", file, n, rec.Tokens, rec.MedianNS)
		}
		r.list = append(r.list, rec)
	}
	return nil
}

// Specs returns the Specs that there are records of for a target, in the order of the records.
func (r *Records) Specs(target string) []kernel.Spec {
	var specs []kernel.Spec
	for _, rec := range r.list {
		s, err := kernel.ParseSpec(rec.Spec)
		if err == nil && rec.Target == target && !slices.Contains(specs, s) {
			specs = append(specs, s)
		}
	}
	return specs
}

// Lookup returns the best recorded plan of a Spec for a target, and where it is from: the exact
// machine (fingerprint), else the same class (vendor and family). Records that were not verified
// or whose plan is not legal any more do not count. Those of other targets do where there is none of
// this one and the code is the same (planOf).
func (r *Records) Lookup(s kernel.Spec, target, machine string) (plan kernel.Plan, from string, ok bool) {
	for _, rung := range []struct {
		name  string
		match func(string) bool
	}{
		{"measured on this machine class", func(m string) bool { return m == machine }},
		{"measured on a machine of the same family", func(m string) bool { return family(m) == family(machine) }},
	} {
		for _, adopted := range []bool{false, true} {
			if plan, ok := r.best(s, target, adopted, rung.match); ok {
				return plan, rung.name, true
			}
		}
	}
	return kernel.Plan{}, "", false
}

// Found counts the kernels of a program that Lookup finds a plan for, for any of the targets that
// they have plans for, and all kernels that have plans. machine returns the fingerprint for a target.
func (r *Records) Found(p *program.Program, machine func(target string) string) (found, all int) {
	for _, k := range p.Kernels {
		if len(k.Plans) == 0 {
			continue
		}
		all++
		if slices.ContainsFunc(k.Plans, func(plan kernel.Plan) bool {
			_, _, ok := r.Lookup(k.Spec, plan.Target, machine(plan.Target))
			return ok
		}) {
			found++
		}
	}
	return found, all
}

// family is vendor and family of a fingerprint: "AuthenticAMD 25", "NVIDIA sm_90".
func family(fingerprint string) string {
	f, _, _ := strings.Cut(fingerprint, "-")
	return f
}

// setting is what times are compared within.
type setting struct{ threads, tokens int }

// best returns the plan with the smallest geometric mean, over the settings, of its time relative
// to the best in that setting. Plans that were not measured in all of them do not count. The records
// are those of the target, or those that it adopts: other settings of the one would rule out plans of
// the other.
func (r *Records) best(s kernel.Spec, target string, adopted bool, match func(machine string) bool) (kernel.Plan, bool) {
	times := map[kernel.Plan]map[setting]float64{}
	fastest := map[setting]float64{}
	var order []kernel.Plan
	spec := s.String()
	choice := sync.OnceValue(func() kernel.Plan {
		p, _ := kernel.Choose(s, target)
		return p
	})
	for _, rec := range r.list {
		if rec.Spec != spec || !rec.Verified || (rec.Target != target) != adopted || !match(rec.Machine) {
			continue
		}
		plan, ok := planOf(rec, target, choice)
		if !ok || kernel.Check(s, plan) != nil {
			continue
		}
		if times[plan] == nil {
			times[plan] = map[setting]float64{}
			order = append(order, plan)
		}
		t, at := float64(rec.MedianNS), setting{rec.Threads, rec.Tokens}
		if old, ok := times[plan][at]; !ok || t < old {
			times[plan][at] = t
		}
		if old, ok := fastest[at]; !ok || t < old {
			fastest[at] = t
		}
	}
	var best kernel.Plan
	score, found := 0.0, false
	for _, plan := range order {
		if len(times[plan]) != len(fastest) {
			continue
		}
		sum := 0.0
		for at, t := range times[plan] {
			sum += math.Log(t / fastest[at])
		}
		if !found || sum < score {
			best, score, found = plan, sum, true
		}
	}
	return best, found
}

// planOf returns the plan of a record for a target. A record of another target has one if the code is
// the same, with the instruction of the plan that is chosen without records: the others of the target
// were not timed against it.
func planOf(rec Record, target string, choice func() kernel.Plan) (kernel.Plan, bool) {
	plan, err := kernel.ParsePlan(rec.Plan)
	if err != nil || plan.Target != rec.Target {
		return kernel.Plan{}, false
	}
	if rec.Target == target {
		return plan, true
	}
	t, ok := kernel.LookupTarget(target)
	if !ok {
		return kernel.Plan{}, false
	}
	plan, ok = t.Adopt(plan)
	return plan, ok && plan.Inst == choice().Inst
}
