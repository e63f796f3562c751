package passes

import (
	"fmt"
	"slices"
	"sort"

	"github.com/bertc/bertc/program"
)

func planMemory(s *State) error {
	p := s.Program
	reuseResiduals(p)
	shareBuffers(p)
	placeBuffers(p)
	return nil
}

// rename makes every step use buffer to instead of from, and drops from.
func rename(p *program.Program, from, to string) {
	for i := range p.Steps {
		for j := range p.Steps[i].Args {
			if a := &p.Steps[i].Args[j]; a.Operand.IsBuffer() && a.Name == from {
				a.Name = to
			}
		}
	}
	p.Buffers = slices.DeleteFunc(p.Buffers, func(b program.Buffer) bool { return b.Name == from })
}

// reuseResiduals lets a step whose residual nothing else reads from then on write the sum into its
// place: each element is read and written by the same work item.
func reuseResiduals(p *program.Program) {
	for n := range p.Steps {
		res, dst := p.Buffer(p.Steps[n].Arg(program.Res)), p.Buffer(p.Steps[n].Arg(program.Dst))
		if res == nil || res.Role != program.Temp || dst.Role != program.Temp || !res.Type.Equal(dst.Type) {
			continue
		}
		reads := 0
		for _, s := range p.Steps[n:] {
			for _, a := range s.Args {
				if a.Operand.IsBuffer() && a.Name == res.Name {
					reads++
				}
			}
		}
		if reads == 1 {
			rename(p, dst.Name, res.Name)
		}
	}
}

// shareBuffers gives temporary results of one kernel and type that are never alive together, the
// same step of every layer, one buffer.
func shareBuffers(p *program.Program) {
	lives := program.Lives(p)
	writer := map[string]string{} // the kernel of the first step that writes a buffer
	for _, s := range p.Steps {
		if dst := s.Arg(program.Dst); writer[dst] == "" {
			writer[dst] = s.Kernel
		}
	}
	for i := 0; i < len(p.Buffers); i++ {
		a := p.Buffers[i]
		for j := i + 1; a.Role == program.Temp && j < len(p.Buffers); {
			b := p.Buffers[j]
			if b.Role != program.Temp || writer[a.Name] != writer[b.Name] || !b.Type.Equal(a.Type) || program.Overlap(lives[i], lives[j]) {
				j++
				continue
			}
			rename(p, b.Name, a.Name)
			lives[i] = append(lives[i], lives[j]...)
			lives = slices.Delete(lives, j, j+1)
		}
	}
	for _, b := range slices.Clone(p.Buffers) {
		if name := layerPrefix.ReplaceAllString(b.Name, ""); name != b.Name && p.Buffer(name) == nil {
			p.Buffer(b.Name).Name = name
			rename(p, b.Name, name)
		}
	}
}

// placeBuffers puts the largest buffers first, each at the lowest offset where it meets no
// buffer of the same area that is alive at the same time. The result of the head comes last and
// shares nothing: a session that takes it block by block has no room for it.
func placeBuffers(p *program.Program) {
	lives := program.Lives(p)
	bySize := make([]int, len(p.Buffers))
	for i := range bySize {
		bySize[i] = i
	}
	size := func(i int) int { return (p.Buffers[i].RowBytes() + 3) / 4 * 4 }
	head := func(i int) bool {
		return p.Buffers[i].Role == program.Output && p.Buffers[i].Symbol() != program.Tokens
	}
	sort.SliceStable(bySize, func(a, b int) bool {
		i, j := bySize[a], bySize[b]
		if head(i) != head(j) {
			return head(j)
		}
		return size(i) > size(j)
	})
	var placed []int
	for _, i := range bySize {
		b := &p.Buffers[i]
		var taken [][2]int
		for _, j := range placed {
			if c := p.Buffers[j]; c.Symbol() == b.Symbol() && (head(i) || program.Overlap(lives[i], lives[j])) {
				taken = append(taken, [2]int{c.Offset, c.Offset + size(j)})
			}
		}
		slices.SortFunc(taken, func(x, y [2]int) int { return x[0] - y[0] })
		b.Offset = 0
		for _, t := range taken {
			if !head(i) && b.Offset+size(i) <= t[0] {
				break
			}
			b.Offset = max(b.Offset, t[1])
		}
		placed = append(placed, i)
	}
}

func ensurePlanned(s *State) error {
	for _, b := range s.Program.Buffers {
		if b.Offset < 0 {
			return fmt.Errorf("buffer %s has no offset", b.Name)
		}
	}
	return program.Verify(s.Program)
}
