package irtest

import (
	"math/rand/v2"

	"github.com/bertc/bertc/ir"
)

// This file owns reordering, which no pass may depend on.

// Shuffle returns a clone of g with its values in another random order that
// still puts each one before its users. Bodies of groups keep their order.
func Shuffle(g *ir.Graph, seed uint64) *ir.Graph {
	g = g.Clone()
	r := rand.New(rand.NewPCG(seed, 3))
	users := g.Users()
	waiting := map[*ir.Value]int{} // distinct arguments not yet placed
	for _, us := range users {
		for _, u := range us {
			waiting[u]++
		}
	}
	var ready []*ir.Value
	for _, v := range g.Values {
		if waiting[v] == 0 {
			ready = append(ready, v)
		}
	}
	g.Values = nil
	for len(ready) > 0 {
		i := r.IntN(len(ready))
		v := ready[i]
		ready[i] = ready[len(ready)-1]
		ready = ready[:len(ready)-1]
		g.Values = append(g.Values, v)
		for _, u := range users[v] {
			if waiting[u]--; waiting[u] == 0 {
				ready = append(ready, u)
			}
		}
	}
	return g
}
