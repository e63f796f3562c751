package pipeline

// This file owns compiling a model into the directory of a package.

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"

	"github.com/bertc/bertc/checkpoint"
	"github.com/bertc/bertc/codegen"
	"github.com/bertc/bertc/codegen/amd64"
	"github.com/bertc/bertc/codegen/arm64"
	"github.com/bertc/bertc/codegen/ptx"
	"github.com/bertc/bertc/emit"
	"github.com/bertc/bertc/graph/bert"
	"github.com/bertc/bertc/heads"
	"github.com/bertc/bertc/internal/staging"
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
	"github.com/bertc/bertc/passes"
	"github.com/bertc/bertc/program"
	rt "github.com/bertc/bertc/runtime"
)

// WeightFile is the name of the weight file in a generated package.
const WeightFile = "model.weights"

// ManifestFile describes the weight file, and marks a directory as a generated package.
const ManifestFile = "manifest.json"

// planFile is the text of the program.
const planFile = "plan.txt"

// backends are the emitters of every architecture, best tier first.
var backends = []func() codegen.Backend{
	func() codegen.Backend { return amd64.NewAMX() },
	func() codegen.Backend { return amd64.NewBF16() },
	func() codegen.Backend { return amd64.NewVNNI() },
	func() codegen.Backend { return amd64.New() },
	func() codegen.Backend { return amd64.NewAVX2() },
	func() codegen.Backend { return arm64.NewBF16() },
	func() codegen.Backend { return arm64.NewDotProd() },
	func() codegen.Backend { return arm64.New() },
}

// gpuArchitecture is the name of the GPU among the architectures. A package has code for it only
// where it is named.
const gpuArchitecture = "ptx"

// Architectures returns the names that Options.Architectures takes.
func Architectures() []string { return append(processors(), gpuArchitecture) }

// processors are the architectures that there are backends for.
func processors() []string {
	var names []string
	for _, b := range backends {
		if arch := b().Target().GOARCH; !slices.Contains(names, arch) {
			names = append(names, arch)
		}
	}
	return names
}

// Targets returns the kernel targets that there are backends for and that serve packages in math,
// best first.
func Targets(math ir.DType) []string {
	var names []string
	for _, b := range backends {
		if t := b().Target(); t.Serves(math) {
			names = append(names, t.Name)
		}
	}
	return names
}

// Backend returns the emitter of a kernel target.
func Backend(target string) (codegen.Backend, error) {
	for _, b := range backends {
		if backend := b(); backend.Target().Name == target {
			return backend, nil
		}
	}
	return nil, fmt.Errorf("no backend emits for %q", target)
}

// Supported reports whether this machine can run a target.
func Supported(t *kernel.Target) bool {
	return t.GOARCH == runtime.GOARCH && len(rt.Missing(t.Features...)) == 0
}

// Avoided reports whether packages pass over a target on this machine, because the next one is faster.
func Avoided(t *kernel.Target) bool { return slices.ContainsFunc(t.Avoid, rt.HasTrait) }

// Options says how to compile a model into a package.
type Options struct {
	Out           string   // directory of the package
	Package       string   // package name; "" makes one from Out
	Architectures []string // nil: all processors; every package has the portable kernels besides
	Math          ir.DType // 0: Model.DType
	Plans         func(s kernel.Spec, target string) (p kernel.Plan, from string, ok bool)
	Tiers         func(*program.Program) ([]emit.Tier, error) // nil: one for each backend
	Observe       func(p passes.Pass, s *passes.State, took time.Duration)
	Progress      func(done, total int64) // bytes of weights written
}

// Result is what Compile did.
type Result struct {
	Dir, Package, ImportPath string
	// Module is the go.mod that the package belongs to, OwnModule whether it was written for it.
	Module    string
	OwnModule bool
	goMod     []byte // of the package's own module
	Program   *program.Program
	Tables    rt.Module // of program.go, without the tiers
	GPU       *emit.GPU // nil unless it was asked for
	Manifest  checkpoint.Manifest
	Files     []string // beside the weight file
}

// blobWeight is the recipe of a weight that is bytes.
func blobWeight(name string, data []byte) program.Weight {
	return program.Weight{Name: name, Blob: name, DType: ir.I8, Shape: []int{len(data)}, Layout: kernel.Vector}
}

// manifest is the content of ManifestFile: every file of the package, and the weight file's table.
type manifest struct {
	Files []string `json:"files"`
	checkpoint.Manifest
}

// Compile writes the package of m to o.Out: into a directory beside it first, which is then
// renamed. A directory that exists is replaced when it is empty or holds what its manifest lists and
// nothing else; its go.mod is kept. Otherwise it is an error.
func Compile(ctx context.Context, m *Model, o Options) (Result, error) {
	out, err := filepath.Abs(o.Out)
	if err != nil {
		return Result{}, err
	}
	r := Result{Dir: out, Package: o.Package}
	if r.Package == "" {
		r.Package = packageName(filepath.Base(out))
	}
	if !token.IsIdentifier(r.Package) || r.Package == "main" || r.Package != strings.ToLower(r.Package) {
		return r, fmt.Errorf("--package %q: a package name is a lower-case Go identifier", r.Package)
	}
	if err := replaceable(out); err != nil {
		return r, err
	}
	if err := r.place(); err != nil {
		return r, err
	}
	if o.Math == 0 {
		o.Math = m.DType()
	}
	emitters, targets, err := chosen(o.Architectures, o.Math)
	if err != nil {
		return r, err
	}
	if r.Program, err = m.Program(passes.Options{Math: o.Math, Targets: targets, Plans: o.Plans, Observe: o.Observe}); err != nil {
		return r, err
	}
	return r, staging.Dir(out, func(tmp string) error {
		if err := writePackage(ctx, tmp, m, o, &r, emitters); err != nil {
			return err
		}
		return ctx.Err()
	})
}

func writePackage(ctx context.Context, dir string, m *Model, o Options, r *Result, emitters []codegen.Backend) error {
	p := r.Program
	var id [32]byte
	var err error
	r.Manifest, err = checkpoint.PackFile(ctx, filepath.Join(dir, WeightFile), m.Checkpoint, p.Weights, checkpoint.PackOptions{
		ID: func(man checkpoint.Manifest) [32]byte {
			id = identity(p, man)
			return id
		},
		Vectors:  m.Quant.Vector,
		Blobs:    map[string][]byte{emit.TokenizerBlob: m.Tokenizer, emit.DenseBlob: m.Sentence.Dense},
		Progress: o.Progress,
	})
	if err != nil {
		return err
	}
	eo := emit.Options{
		Package: r.Package, ImportPath: r.ImportPath, Version: Version(), Checkpoint: m.Name, ID: id,
		VocabSize: m.Config.EmbeddingRows, MaxPositions: m.Config.MaxPositionEmbeddings,
		Task: string(m.Task()), Labels: m.Config.Labels, Problem: string(m.Config.ProblemType),
		Pooling: string(m.Sentence.Pooling), Normalize: m.Sentence.Normalize, EmbedLength: m.Sentence.MaxLength,
		DenseOutputs: m.Sentence.Outputs, DenseTanh: m.Sentence.Tanh,
		HasTokenizer: m.Tokenizer != nil, Facts: facts(m, o.Math, emitters),
	}
	if eo.Pooling == "" {
		eo.Pooling = string(heads.PoolMean)
	}
	if slices.Contains(o.Architectures, gpuArchitecture) {
		if eo.GPU, err = GPUCode(p); err != nil {
			return err
		}
		r.GPU = eo.GPU
		eo.Facts = append(eo.Facts, emit.Fact{Name: "GPU", Value: ptx.TargetName + ", with the build tag cuda"})
	}
	for _, w := range r.Manifest.Weights {
		eo.WeightBytes = append(eo.WeightBytes, int(w.Size))
	}
	tiers, err := o.tiers(p, emitters)
	if err != nil {
		return err
	}
	r.Tables = emit.Module(p, eo)
	files, err := emit.Package(p, tiers, eo)
	if err != nil {
		return err
	}
	if r.OwnModule {
		files = append(files, emit.File{Name: goMod, Data: r.goMod})
	}
	list := manifest{Files: []string{WeightFile, ManifestFile}, Manifest: r.Manifest}
	for _, f := range files {
		list.Files = append(list.Files, f.Name)
	}
	slices.Sort(list.Files)
	text, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return err
	}
	for _, f := range append(files, emit.File{Name: ManifestFile, Data: append(text, '\n')}) {
		name := filepath.Join(dir, filepath.FromSlash(f.Name))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(name, f.Data, 0o644); err != nil {
			return err
		}
		r.Files = append(r.Files, f.Name)
	}
	return nil
}

func (o Options) tiers(p *program.Program, backends []codegen.Backend) ([]emit.Tier, error) {
	if o.Tiers != nil {
		return o.Tiers(p)
	}
	return emit.Tiers(p, backends)
}

// identity is the hash that ties the weight file to the package: of the program's text, and of
// the names, places and checksums of the weights.
func identity(p *program.Program, m checkpoint.Manifest) [32]byte {
	text, _ := json.Marshal(m)
	return sha256.Sum256(append([]byte(p.String()), text...))
}

// facts are the lines of the model card.
func facts(m *Model, math ir.DType, emitters []codegen.Backend) []emit.Fact {
	c := m.Config
	var targets []string
	for _, b := range emitters {
		targets = append(targets, b.Target().Name)
	}
	return []emit.Fact{
		{Name: "checkpoint", Value: m.Name},
		{Name: "architecture", Value: strings.Join(c.Architectures, ", ")},
		{Name: "size", Value: fmt.Sprintf("%s, %d parameters", m.Size(), m.Parameters())},
		{Name: "norm and positions", Value: fmt.Sprintf("%s, %s", c.NormType, c.Positions)},
		{Name: "head", Value: head(c)},
		{Name: "numerics", Value: numerics(math)},
		{Name: "kernels", Value: strings.Join(append(targets, "portable Go"), ", ")},
	}
}

func numerics(math ir.DType) string {
	if math == ir.I8 {
		return "products of the layers and the decoder in i8, with a scale for each row of both factors; others in bf16; residual stream in f32"
	}
	return fmt.Sprintf("products in %s, sums and residual stream in f32", math)
}

// head is the task with its labels.
func head(c bert.Config) string {
	text := string(c.Task)
	if c.ProblemType != "" {
		text += ", " + string(c.ProblemType)
	}
	if len(c.Labels) > 0 {
		text += ": " + strings.Join(c.Labels, ", ")
	}
	return text
}

// chosen returns the backends of the architectures, all processors with nil, that serve packages in math,
// and the names of their targets and the GPU's.
func chosen(archs []string, math ir.DType) (bs []codegen.Backend, targets []string, err error) {
	for _, a := range archs {
		if !slices.Contains(Architectures(), a) {
			return nil, nil, fmt.Errorf("--targets %q: unknown target (known: %s)", a, strings.Join(Architectures(), ", "))
		}
	}
	for _, b := range backends {
		backend := b()
		if t := backend.Target(); t.Serves(math) && (archs == nil || slices.Contains(archs, t.GOARCH)) {
			bs = append(bs, backend)
			targets = append(targets, t.Name)
		}
	}
	for _, a := range archs {
		if a == gpuArchitecture {
			if err := CheckGPU(math); err != nil {
				return nil, nil, fmt.Errorf("--targets %s: %w", a, err)
			}
			targets = append(targets, ptx.TargetName)
			continue
		}
		if !slices.ContainsFunc(bs, func(b codegen.Backend) bool { return b.Target().GOARCH == a }) {
			return nil, nil, fmt.Errorf("--targets %q: has no kernels in %s, without it the portable kernels run there", a, DTypeName(math))
		}
	}
	return bs, targets, nil
}

// packageName makes a package name from the last element of a path.
func packageName(base string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z' || '0' <= r && r <= '9':
			return r
		case 'A' <= r && r <= 'Z':
			return r - 'A' + 'a'
		}
		return -1
	}, base)
	if !token.IsIdentifier(name) {
		return "model"
	}
	return name
}

// place finds the module that the package belongs to and the import path that follows: the
// package's own go.mod when it has one, which is kept, or the nearest around it; without any, the
// package gets one.
func (r *Result) place() error {
	for root := r.Dir; ; root = filepath.Dir(root) {
		file := filepath.Join(root, goMod)
		data, err := os.ReadFile(file)
		if os.IsNotExist(err) && root != filepath.Dir(root) {
			continue
		}
		if err != nil && !os.IsNotExist(err) {
			return err
		}
		r.Module = file
		r.OwnModule = err != nil || root == r.Dir
		switch {
		case err != nil:
			r.Module = filepath.Join(r.Dir, goMod)
			r.ImportPath = ownModules + r.Package
			r.goMod = fmt.Appendf(nil, "module %s\n\ngo 1.24\n", r.ImportPath)
		case modfile.ModulePath(data) == "":
			return fmt.Errorf("%s: no module directive", file)
		default:
			rel, err := filepath.Rel(root, r.Dir)
			if err != nil {
				return err
			}
			r.ImportPath = path.Join(modfile.ModulePath(data), filepath.ToSlash(rel))
			if root == r.Dir {
				r.goMod = data
			}
		}
		if err := module.CheckImportPath(r.ImportPath); err != nil {
			return fmt.Errorf("--out %s: %w", r.Dir, err)
		}
		return nil
	}
}

const goMod = "go.mod"

// ownModules begins the path of a module that is made for a package. Its first element has a dot,
// because paths without one belong to the standard library.
const ownModules = "bertc.local/"

// replaceable reports why dir cannot be replaced by a generated package: it may hold what the
// manifest of an older package lists, and nothing else.
func replaceable(dir string) error {
	info, err := os.Lstat(dir)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("--out %s: exists and is not a directory", dir)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) == 0 {
		return err
	}
	data, err := os.ReadFile(filepath.Join(dir, ManifestFile))
	if err != nil {
		return fmt.Errorf("--out %s: exists, is not empty and is not a generated package (it has no %s)", dir, ManifestFile)
	}
	var m manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return fmt.Errorf("--out %s: %s: %w", dir, ManifestFile, err)
	}
	return filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err == nil && !slices.Contains(m.Files, filepath.ToSlash(rel)) {
			err = fmt.Errorf("--out %s: holds %s, which bertc did not write", dir, rel)
		}
		return err
	})
}
