package hf

// This file owns the double array: the pieces as a trie over character codes,
// with the children of each node placed so that no two nodes share a unit.

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/bertc/bertc/tokenizer"
)

const (
	pageSize = 256
	pages    = 0x110000 / pageSize
	// noParent is the Check of a unit that is no child. There are never that
	// many units.
	noParent = math.MaxUint32
	// leafBase is the Base of a unit without children: beyond all units.
	leafBase = math.MaxInt32
	// maxUnits bounds the double array.
	maxUnits = 1 << 28
)

// buildTrie fills in the tables that segmentation uses.
func (b *builder) buildTrie(vocab []piece) error {
	codes, err := b.assignCodes(vocab)
	if err != nil {
		return err
	}
	keys := make([]key, len(vocab))
	for id, p := range vocab {
		k := key{id: int32(id)}
		for _, r := range p.text {
			k.codes = append(k.codes, codes[r])
		}
		keys[id] = k
		b.image.MaxPiece = max(b.image.MaxPiece, uint32(len(k.codes)))
	}
	slices.SortFunc(keys, func(x, y key) int { return slices.Compare(x.codes, y.codes) })
	nodes := buildNodes(keys)
	if len(nodes) > maxUnits {
		return fmt.Errorf("vocab: its trie has more than the %d nodes that are supported", maxUnits)
	}
	units := place(nodes)
	b.image.Units = make([]tokenizer.Unit, units)
	b.image.UnitIDs = make([]int32, units)
	for i := range units {
		b.image.Units[i] = tokenizer.Unit{Base: leafBase, Check: noParent, Score: math.Inf(-1)}
		b.image.UnitIDs[i] = -1
	}
	for i, n := range nodes {
		unit := &b.image.Units[n.unit]
		if n.count > 0 {
			unit.Base = n.base
		}
		if i > 0 {
			unit.Check = nodes[n.parent].unit
		}
		if n.id >= 0 {
			unit.Score = vocab[n.id].score
			b.image.UnitIDs[n.unit] = n.id
		}
	}
	return nil
}

// assignCodes gives each character of the vocabulary a code, the frequent ones
// the small codes, and fills in the map from code points to codes. Code 0 is
// for all other characters.
func (b *builder) assignCodes(vocab []piece) (map[rune]uint16, error) {
	count := map[rune]int{}
	for _, p := range vocab {
		for _, r := range p.text {
			count[r]++
		}
	}
	if len(count) > math.MaxUint16 {
		return nil, errors.New("vocab: more than 65535 different characters are not supported")
	}
	runes := make([]rune, 0, len(count))
	for r := range count {
		runes = append(runes, r)
	}
	slices.SortFunc(runes, func(x, y rune) int {
		return cmp.Or(cmp.Compare(count[y], count[x]), cmp.Compare(x, y))
	})
	codes := map[rune]uint16{}
	b.image.Pages = make([]uint16, pages)
	b.image.Codes = make([]uint16, pageSize) // page 0 is the empty one
	for i, r := range runes {
		codes[r] = uint16(i + 1)
		page := &b.image.Pages[r/pageSize]
		if *page == 0 {
			*page = uint16(len(b.image.Codes) / pageSize)
			b.image.Codes = append(b.image.Codes, make([]uint16, pageSize)...)
		}
		b.image.Codes[int(*page)*pageSize+int(r%pageSize)] = codes[r]
	}
	return codes, nil
}

// A key is a piece as character codes.
type key struct {
	codes []uint16
	id    int32
}

// A trieNode is a node of the trie. The children of a node lie side by side.
type trieNode struct {
	parent int32
	first  int32 // child
	count  int32 // of children
	id     int32 // of the piece that ends here, or -1
	code   uint16
	base   uint32
	unit   uint32
}

// buildNodes returns the trie of keys, which are sorted and all different,
// level by level from the root.
func buildNodes(keys []key) []trieNode {
	// Below each node lie the keys [lo, hi), which share depth codes.
	type keyRange struct{ lo, hi, depth int }
	nodes := []trieNode{{parent: -1, id: -1}}
	ranges := []keyRange{{0, len(keys), 0}}
	for i := 0; i < len(nodes); i++ {
		r := ranges[i]
		ranges[i] = keyRange{}
		if r.lo < r.hi && len(keys[r.lo].codes) == r.depth {
			nodes[i].id = keys[r.lo].id
			r.lo++
		}
		nodes[i].first = int32(len(nodes))
		for lo := r.lo; lo < r.hi; {
			code := keys[lo].codes[r.depth]
			hi := lo + 1
			for hi < r.hi && keys[hi].codes[r.depth] == code {
				hi++
			}
			nodes = append(nodes, trieNode{parent: int32(i), id: -1, code: code})
			ranges = append(ranges, keyRange{lo, hi, r.depth + 1})
			lo = hi
		}
		nodes[i].count = int32(len(nodes)) - nodes[i].first
	}
	return nodes
}

// place sets the base and the unit of all nodes and returns how many units
// there are. Nodes with many children are placed first, while there is room
// in one piece; those with one child fill the holes.
func place(nodes []trieNode) int {
	order := make([]int32, 0, len(nodes))
	for i, n := range nodes {
		if n.count > 0 && i > 0 {
			order = append(order, int32(i))
		}
	}
	slices.SortStableFunc(order, func(x, y int32) int { return cmp.Compare(nodes[y].count, nodes[x].count) })

	var f freeUnits
	f.take(0)
	// The root has base 0, so that a first character finds its unit at its code.
	for i := range children(nodes, 0) {
		f.take(int(nodes[1+i].code))
	}
	setUnits(nodes, 0, 0)

	from, count := 0, int32(0)
	for _, i := range order {
		kids := children(nodes, int(i))
		// Nodes with as many children search on from where the last found
		// room; for those with fewer the search starts anew.
		if nodes[i].count != count {
			from, count = 0, nodes[i].count
		}
		slot := f.next(from)
		for !f.fits(slot, kids) {
			slot = f.next(slot + 1)
		}
		from = slot
		base := uint32(slot) - uint32(kids[0].code)
		setUnits(nodes, int(i), base)
		for _, kid := range kids {
			f.take(int(base + uint32(kid.code)))
		}
	}
	return f.size()
}

func children(nodes []trieNode, i int) []trieNode {
	return nodes[nodes[i].first : nodes[i].first+nodes[i].count]
}

func setUnits(nodes []trieNode, i int, base uint32) {
	nodes[i].base = base
	kids := children(nodes, i)
	for k := range kids {
		kids[k].unit = base + uint32(kids[k].code)
	}
}

// freeUnits knows which units are free. after[i] is i if unit i is free, and
// otherwise a unit behind it, such that following it leads to the next free
// one; the units from len(after) on are all free.
type freeUnits struct{ after []int32 }

func (f *freeUnits) size() int { return len(f.after) }

// next returns the first free unit from i on.
func (f *freeUnits) next(i int) int {
	end := i
	for end < len(f.after) && int(f.after[end]) != end {
		end = int(f.after[end])
	}
	for i < len(f.after) && int(f.after[i]) != i {
		i, f.after[i] = int(f.after[i]), int32(end)
	}
	return end
}

// take makes unit i, which must be free, used.
func (f *freeUnits) take(i int) {
	for len(f.after) <= i {
		f.after = append(f.after, int32(len(f.after)))
	}
	f.after[i] = int32(i + 1)
}

// fits reports whether kids, which are in the order of their codes, can be
// placed with the first of them at slot.
func (f *freeUnits) fits(slot int, kids []trieNode) bool {
	for _, kid := range kids[1:] {
		i := slot + int(kid.code) - int(kids[0].code)
		if i < len(f.after) && int(f.after[i]) != i {
			return false
		}
	}
	return true
}
