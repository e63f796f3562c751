package emit

import (
	"bytes"
	"fmt"
	"reflect"

	"github.com/bertc/bertc/runtime/cuda"
)

// This file owns what a package has for a GPU: the PTX text, its launch table, and package cuda,
// all behind the build tag cuda.

// GPU is the code of a program for a GPU.
type GPU struct {
	PTX     string
	Program cuda.Program
}

// gpuTag is the build constraint of the files that need the binding of the driver.
const gpuTag = "cuda && cgo && linux"

// gpuFiles returns model.ptx, the launch table, and the sources of package cuda.
func gpuFiles(g *GPU, o Options) ([]File, error) {
	var b bytes.Buffer
	b.WriteString(header(o))
	fmt.Fprintf(&b, "//go:build %s\n\npackage %s\n\nimport %q\n\n", gpuTag, o.Package, o.ImportPath+"/internal/cuda")
	b.WriteString("// launches are the launches of every kernel, in the order of module.Kernels. An operand that is\n// not named is Src.\nvar launches = cuda.Program{\nKernels: []cuda.Kernel{\n")
	for _, k := range g.Program.Kernels {
		fmt.Fprintf(&b, "%s,\n", literal(reflect.ValueOf(k)))
	}
	fmt.Fprintf(&b, "},\nTopK: cuda.Kernel%s,\n}\n", literal(reflect.ValueOf(g.Program.TopK)))
	files := []File{{"model.ptx", []byte(g.PTX)}, {"kernels_ptx.go", b.Bytes()}}
	source, err := copySource("internal/cuda", cuda.Source)
	if err != nil {
		return nil, err
	}
	for _, f := range source {
		f.Data = bytes.ReplaceAll(f.Data, []byte(`"github.com/bertc/bertc/runtime"`), fmt.Appendf(nil, "%q", o.ImportPath+"/internal/rt"))
		files = append(files, f)
	}
	return files, nil
}
