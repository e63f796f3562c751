package autotune

// This file owns tuning: the small model, its candidates as tiers, and their times.

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/bertc/bertc/checkpoint"
	"github.com/bertc/bertc/emit"
	"github.com/bertc/bertc/graph/bert"
	"github.com/bertc/bertc/internal/bench"
	"github.com/bertc/bertc/internal/hw"
	"github.com/bertc/bertc/internal/pipeline"
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
	"github.com/bertc/bertc/program"
	"github.com/bertc/bertc/runtime/cuda"
)

// Options say what to tune.
type Options struct {
	Target     string   // kernel target; must run here
	Math       ir.DType // numerics policy
	Spec       string   // only kernels that this pattern selects (bench.Select)
	Candidates int      // plans of each Spec
	Tokens     []int    // sequence lengths to measure at; for a GPU the tokens of batches (device.go)
	Rounds     int      // samples of each candidate at each length
	Threads    int
	// Open opens the GPU, where Target is one.
	Open func() (cuda.Driver, error)
	// Progress is called before each part of the work.
	Progress func(done, total int)
}

// Check names the flag of a choice that the kernels of a configuration cannot be tuned with.
func (o Options) Check(cfg bert.Config) error {
	if _, err := path.Match(o.Spec, ""); err != nil {
		return fmt.Errorf("--spec %q: %w", o.Spec, err)
	}
	switch {
	case o.Candidates < 1:
		return fmt.Errorf("--candidates %d: must be 1 or more", o.Candidates)
	case o.Rounds < 1:
		return fmt.Errorf("--rounds %d: must be 1 or more", o.Rounds)
	case o.Threads < 0:
		return fmt.Errorf("--threads %d: must be 0 or more", o.Threads)
	case len(o.Tokens) == 0:
		return fmt.Errorf("--tokens: name a sequence length or more")
	}
	longest := min(cfg.MaxPositionEmbeddings, bert.MaxTokens)
	if o.device() {
		return checkDevice(o.Tokens, longest)
	}
	for _, n := range o.Tokens {
		if n < 1 || n > longest {
			return fmt.Errorf("--tokens %d: must be in 1..%d", n, longest)
		}
	}
	return nil
}

// device reports whether the target is a GPU.
func (o Options) device() bool {
	t, ok := kernel.LookupTarget(o.Target)
	return ok && t.Device()
}

// minWeights is how many bytes of layer weights the measured model has at least (when the model
// has that many): four times a last-level cache of 32 MiB, so that weights come from memory.
const minWeights = 128 << 20

// Tune measures plans for the kernels of a configuration and writes one record for each candidate
// and length to w as soon as it is measured. What was written stays valid when ctx ends. config is
// the text that cfg was made from.
func Tune(ctx context.Context, config []byte, cfg bert.Config, o Options, w io.Writer) error {
	t := tuner{Options: o, w: w, machine: hw.Fingerprint(), repeats: deviceRepeats}
	return t.tune(ctx, config, cfg)
}

func (t *tuner) tune(ctx context.Context, config []byte, cfg bert.Config) error {
	if err := t.Check(cfg); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "bertc-tune-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	m, err := smallModel(ctx, dir, config, cfg, t.Math)
	if err != nil {
		return err
	}
	defer m.Close()
	out := filepath.Join(dir, "package")
	arch, _, _ := strings.Cut(t.Target, "/")
	r, err := pipeline.Compile(ctx, m, pipeline.Options{Out: out, Architectures: []string{arch}, Math: t.Math, Tiers: t.tiers})
	if err != nil {
		return err
	}
	t.p = r.Program
	if t.device() {
		return t.runDevice(ctx, m.Config, r)
	}
	b, err := pipeline.Build(ctx, out, "")
	if err != nil {
		return err
	}
	defer b.Close()
	return t.run(ctx, b)
}

// smallModel writes a random checkpoint of the same architecture and dimensions with as few layers
// as minWeights asks for, and opens it. Where config is silent or the model's tensors overrule it,
// the tensors of the random checkpoint, which are those that cfg wants, decide again; that the
// embeddings are tied cannot be seen from a tensor that is left out.
func smallModel(ctx context.Context, dir string, config []byte, cfg bert.Config, math ir.DType) (*pipeline.Model, error) {
	perLayer := cfg.HiddenSize * (2*cfg.HiddenSize + 2*cfg.NumKeyValueHeads*cfg.HeadDim + 3*cfg.IntermediateSize) * math.Size()
	layers := min(max(2, (minWeights+perLayer-1)/perLayer), cfg.NumHiddenLayers)
	var fields map[string]any
	if err := json.Unmarshal(config, &fields); err != nil {
		return nil, err
	}
	fields["num_hidden_layers"] = layers
	fields["tie_word_embeddings"] = cfg.TieWordEmbeddings
	small, err := json.Marshal(fields)
	if err != nil {
		return nil, err
	}
	cfg.NumHiddenLayers = layers
	model := filepath.Join(dir, "model")
	err = checkpoint.Init(ctx, model, small, pipeline.Wants(cfg), checkpoint.InitOptions{DType: checkpoint.BF16, Std: cfg.InitializerRange})
	if err != nil {
		return nil, err
	}
	return pipeline.Open(model)
}

type tuner struct {
	Options
	w       io.Writer
	p       *program.Program
	picks   map[string]bool // names of the kernels to tune
	plans   [][]kernel.Plan // by tier, by kernel
	machine string          // fingerprint
	repeats int             // runs of a kernel of a GPU for a sample
}

func tierName(i int) string { return fmt.Sprintf("plan%d", i) }

// tiers returns one tier for each candidate; none for a GPU, whose code needs no Go toolchain.
func (t *tuner) tiers(p *program.Program) ([]emit.Tier, error) {
	if err := t.choose(p); err != nil || t.device() {
		return nil, err
	}
	backend, err := pipeline.Backend(t.Target)
	if err != nil {
		return nil, err
	}
	var tiers []emit.Tier
	for i, plans := range t.plans {
		tiers = append(tiers, emit.Tier{Name: tierName(i), Backend: backend, Plans: plans})
	}
	return tiers, nil
}

// choose makes the tiers: tier i has the i-th plan of every kernel, or the first where there are
// fewer.
func (t *tuner) choose(p *program.Program) (err error) {
	if t.picks, err = bench.Select(p, t.Spec); err != nil {
		return err
	}
	byKernel := make([][]kernel.Plan, len(p.Kernels))
	n := 1
	for i, k := range p.Kernels {
		byKernel[i] = Candidates(k.Spec, t.Target, t.Candidates)
		if len(byKernel[i]) == 0 {
			return fmt.Errorf("%s: no legal plan for %s", k.Spec, t.Target)
		}
		if !t.picks[k.Name] {
			byKernel[i] = byKernel[i][:1]
		}
		n = max(n, len(byKernel[i]))
	}
	for i := range n {
		var tier []kernel.Plan
		for _, plans := range byKernel {
			plan := plans[0]
			if i < len(plans) {
				plan = plans[i]
			}
			tier = append(tier, plan)
		}
		t.plans = append(t.plans, tier)
	}
	return nil
}

// Candidates returns the n cheapest plans of a Spec on a target by kernel.Cost, cheapest first.
func Candidates(s kernel.Spec, target string, n int) []kernel.Plan {
	plans := slices.Collect(kernel.Space(s, target))
	slices.SortStableFunc(plans, func(a, b kernel.Plan) int { return cmp.Compare(kernel.Cost(s, a), kernel.Cost(s, b)) })
	return plans[:min(n, len(plans))]
}

// run starts, checks and times all tiers.
func (t *tuner) run(ctx context.Context, b *pipeline.Binary) error {
	most := max(slices.Max(t.Tokens), bench.Shape{Lengths: verifyTokens}.Tokens())
	var drivers []*pipeline.Driver
	defer func() {
		for _, d := range drivers {
			d.Close()
		}
	}()
	for i := range t.plans {
		d, err := b.Start(ctx, pipeline.DriverOptions{Kernels: tierName(i), Threads: t.Threads, MaxTokens: most, Times: true})
		if err != nil {
			return err
		}
		drivers = append(drivers, d)
	}
	verified, err := t.verify(drivers)
	if err != nil {
		return err
	}
	return t.rounds(ctx, verified, func(tier, tokens int) (map[string]int64, error) {
		return t.call(drivers[tier], bench.Shape{Lengths: []int{tokens}})
	})
}

// rounds times all tiers, alternating, and writes the records. call returns the time of one step of
// each kernel.
func (t *tuner) rounds(ctx context.Context, verified []bool, call func(tier, tokens int) (map[string]int64, error)) error {
	for n, tokens := range t.Tokens {
		samples := make([]map[string][]int64, len(t.plans)) // by tier, by kernel: time of one step
		for round := range t.Rounds + 1 {
			if t.Progress != nil {
				t.Progress(n*(t.Rounds+1)+round, len(t.Tokens)*(t.Rounds+1))
			}
			for i := range t.plans {
				// Another one begins each round: at one token the first call of a round took up to 1.4
				// times as long as the others (measured on Zen 4).
				i = (i + round) % len(t.plans)
				if err := ctx.Err(); err != nil {
					return err
				}
				times, err := call(i, tokens)
				if err != nil {
					return err
				}
				if round == 0 {
					samples[i] = map[string][]int64{} // the first call warms up
					continue
				}
				for k, ns := range times {
					samples[i][k] = append(samples[i][k], ns)
				}
			}
		}
		if err := t.write(tokens, samples, verified); err != nil {
			return err
		}
	}
	return nil
}

// call returns the mean time of one step of each kernel.
func (t *tuner) call(d *pipeline.Driver, s bench.Shape) (map[string]int64, error) {
	sum, count := map[string]int64{}, map[string]int64{}
	err := d.Do(s.Request(d.Hello.VocabSize), func(r pipeline.Response) error {
		for _, step := range r.Steps {
			k := t.p.Steps[step.Step].Kernel
			sum[k] += int64(step.Took)
			count[k]++
		}
		return nil
	})
	for k := range sum {
		sum[k] /= count[k]
	}
	return sum, err
}

// verifyTokens is a batch with a sequence of one token, one below and one above common tiles.
var verifyTokens = []int{1, 11, 33}

// verify compares the hidden states of all tiers. Plans whose reduction keys are equal must give
// equal bits; the first tier has the plans that the conformance suite checks.
func (t *tuner) verify(drivers []*pipeline.Driver) ([]bool, error) {
	shape := bench.Shape{Lengths: verifyTokens}
	var want []float32
	ok := make([]bool, len(drivers))
	for i, d := range drivers {
		req := shape.Request(d.Hello.VocabSize)
		req.Quiet = false
		err := d.Do(req, func(r pipeline.Response) error {
			if i == 0 {
				want = r.Hidden
			}
			ok[i] = slices.Equal(r.Hidden, want)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return ok, nil
}

func (t *tuner) write(tokens int, samples []map[string][]int64, verified []bool) error {
	e := json.NewEncoder(t.w)
	threads := 0
	if !t.device() {
		threads = bench.Threads(t.Threads)
	}
	for i, k := range t.p.Kernels {
		seen := map[kernel.Plan]bool{}
		for tier, plans := range t.plans {
			s := samples[tier][k.Name]
			if seen[plans[i]] || len(s) == 0 || !t.picks[k.Name] {
				continue
			}
			seen[plans[i]] = true
			sorted := slices.Sorted(slices.Values(s))
			err := e.Encode(Record{
				Machine: t.machine, Threads: threads, Target: t.Target, Spec: k.Spec.String(), Plan: plans[i].String(),
				Tokens: tokens, MedianNS: max(1, sorted[(len(sorted)-1)/2]), Samples: s, Verified: verified[tier],
				Date: time.Now().UTC().Format(time.DateOnly), Version: pipeline.Version(),
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}
