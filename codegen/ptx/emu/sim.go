package emu

import (
	"fmt"
	"strings"
)

// This file owns the run of one launch: clusters and CTAs, and the schedule, which is adversarial:
// random warps run for random times, one warp runs only when nothing else can, asynchronous
// operations complete when chance says so.

type sim struct {
	dev     *Device
	grid    *grid
	k       *Kernel
	cfg     Config
	params  []byte
	rng     rng
	queue   []int // clusters that have not started
	running []*cta
	warps   []*warp // of running, those that have not ended
	async   []*async
	starved *warp
	steps   uint64
	last    uint64 // steps at the last progress
	changed bool   // a blocked group may be able to go on

	spurious int // of 16 waits of try_wait that must wait, how many give up at once
}

// rng is splitmix64.
type rng uint64

func (r *rng) next() uint64 {
	*r += 0x9e3779b97f4a7c15
	z := uint64(*r)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

func (r *rng) intn(n int) int { return int(r.next() % uint64(n)) }

// cluster is the CTAs that started together.
type cluster struct {
	ctas     []*cta
	id       [3]int
	warps    int  // that have not ended
	acquired bool // a warp has executed a fence or an acquire of device scope
	bar      clusterBarrier
	ents     int // entities of vector clocks
}

type cta struct {
	sim      *sim
	cluster  *cluster
	id       [3]int
	rank     int // in the cluster
	index    int // in the grid
	warps    []*warp
	live     int
	shared   []byte // from sharedBase on
	state    []byte // of each byte: unwritten, written, mbarrier
	cells    []cell // of each 4 bytes
	bars     [16]namedBarrier
	mbars    map[uint32]*mbarrier
	barriers int // mbarriers initialised so far
	pool     int // free registers
	groups   []*warpgroup
	inflight int            // asynchronous operations that touch its shared memory
	copies   map[int]access // the last copy of each agent that touched its shared memory
	waited   bool           // a thread has executed griddepcontrol.wait
	early    bool           // a thread has executed griddepcontrol.launch_dependents, and not behind a wait
}

func (s *sim) lineText(line int) string {
	if line < 1 || line > len(s.k.module.lines) {
		return ""
	}
	return strings.TrimSpace(s.k.module.lines[line-1])
}

func newSim(d *Device, g *grid, k *Kernel, c Config, params []byte) *sim {
	s := &sim{dev: d, grid: g, k: k, cfg: c, params: params, rng: rng(d.opt.Seed*0x9e3779b97f4a7c15 + d.launches)}
	s.spurious = []int{1, 4, 14}[s.rng.intn(3)]
	n := 1
	for i := range c.Grid {
		n *= c.Grid[i] / c.Cluster[i]
	}
	s.queue = make([]int, n)
	for i := range s.queue {
		s.queue[i] = i
	}
	for i := n - 1; i > 0; i-- {
		j := s.rng.intn(i + 1)
		s.queue[i], s.queue[j] = s.queue[j], s.queue[i]
	}
	return s
}

// start makes the CTAs of the next cluster resident.
func (s *sim) start() {
	n := s.queue[len(s.queue)-1]
	s.queue = s.queue[:len(s.queue)-1]
	g, size := s.cfg.Grid, s.cfg.Cluster
	cl := &cluster{id: [3]int{n % (g[0] / size[0]), n / (g[0] / size[0]) % (g[1] / size[1]), n / (g[0] / size[0]) / (g[1] / size[1])}}
	threads := s.cfg.Block[0] * s.cfg.Block[1] * s.cfg.Block[2]
	count := size[0] * size[1] * size[2]
	cl.ents = count * entitiesPerCTA(threads/32)
	for rank := range count {
		c := &cta{sim: s, cluster: cl, rank: rank, mbars: map[uint32]*mbarrier{}, copies: map[int]access{}}
		pos := [3]int{rank % size[0], rank / size[0] % size[1], rank / size[0] / size[1]}
		for i := range pos {
			c.id[i] = cl.id[i]*size[i] + pos[i]
		}
		c.index = c.id[0] + g[0]*(c.id[1]+g[1]*c.id[2])
		end := (s.k.shared+s.k.dynamic-1)&^(s.k.dynamic-1) + s.cfg.Shared
		if s.cfg.Shared == 0 {
			end = s.k.shared
		}
		c.shared = make([]byte, end-sharedBase)
		for i := range c.shared {
			c.shared[i] = 0xff
		}
		c.state = make([]byte, len(c.shared))
		c.cells = make([]cell, (len(c.shared)+3)/4)
		c.live = threads / 32
		entry := s.entryRegisters(threads)
		for i := range threads / 32 {
			w := newWarp(s, c, i)
			w.nregs = entry
			c.warps = append(c.warps, w)
			if i%4 == 3 {
				c.groups = append(c.groups, &warpgroup{cta: c, index: i / 4, warps: [4]*warp(c.warps[i-3 : i+1])})
			}
		}
		cl.warps += c.live
		cl.ctas = append(cl.ctas, c)
		s.running = append(s.running, c)
		s.warps = append(s.warps, c.warps...)
	}
	for _, c := range cl.ctas {
		for _, w := range c.warps {
			w.initClocks()
		}
	}
	if s.starved == nil {
		s.starved = s.warps[s.rng.intn(len(s.warps))]
	}
}

// entryRegisters is how many registers a thread has at entry: the register file divided among the
// threads of the CTAs that .minnctapersm asks for, in steps of 8 (notes on ptxas: 168 for 384
// threads), at most 255.
func (s *sim) entryRegisters(threads int) int {
	return min(65536/(threads*max(s.k.e.minCTAs, 1))&^7, 255)
}

// run runs the launch to its end.
func (s *sim) run() {
	var ready []*warp
	for turn := 0; ; turn++ {
		if stop := s.dev.opt.Stop; stop != nil && turn%1024 == 0 {
			if err := stop(); err != nil {
				panic(stopped{err})
			}
		}
		for len(s.queue) > 0 && (len(s.running) == 0 || len(s.running) < s.dev.opt.SMs) {
			s.start()
			s.changed = true
		}
		if len(s.warps) == 0 && len(s.async) == 0 {
			return
		}
		if s.changed {
			s.changed = false
			ready = ready[:0]
			for _, w := range s.warps {
				if w.runnable() {
					ready = append(ready, w)
				}
			}
		}
		if len(s.async) > 0 && (len(ready) == 0 || s.rng.next()&3 == 0) {
			if s.fire() || len(ready) > 0 {
				continue
			}
		}
		if len(ready) == 0 {
			s.deadlock()
		}
		i := s.rng.intn(len(ready))
		w := ready[i]
		if w == s.starved && len(ready) > 1 {
			continue
		}
		if !w.run(1+s.rng.intn(64)) || !w.runnable() {
			ready[i] = ready[len(ready)-1]
			ready = ready[:len(ready)-1]
		}
		if s.steps-s.last > s.dev.opt.MaxSteps {
			s.livelock()
		}
	}
}

// progress is called where something happens that a waiting warp could see.
func (s *sim) progress() {
	s.changed = true
	s.last = s.steps
}

func (g *group) reason() string {
	if g.why == nil {
		return "its turn"
	}
	return g.why()
}

// deadlock reports who waits for what.
func (s *sim) deadlock() {
	var lines []string
	var first *Report
	seen := map[string]int{}
	for _, w := range s.warps {
		for _, g := range w.groups {
			in := s.instrAt(g.pc)
			text := fmt.Sprintf("line %d: %s: waits for %s", in.line, s.lineText(in.line), g.reason())
			seen[text]++
			if seen[text] == 1 {
				lines = append(lines, text)
			}
			if first == nil {
				first = w.report(Deadlock, in, g.mask, "")
			}
		}
	}
	for i, l := range lines {
		lines[i] = fmt.Sprintf("%s (%d warps)", l, seen[l])
	}
	first.Msg = "nothing can go on:\n    " + strings.Join(lines, "\n    ")
	panic(first)
}

func (s *sim) livelock() {
	w := s.warps[0]
	for _, o := range s.warps {
		if o.runnable() {
			w = o
		}
	}
	panic(w.report(Livelock, s.instrAt(w.groups[0].pc), w.groups[0].mask, fmt.Sprintf("%d instructions without a store, a barrier or the end of a warp", s.steps-s.last)))
}

func (s *sim) instrAt(pc int) *instr {
	return &s.k.code[min(pc, len(s.k.code)-1)]
}
