package heads

// This file owns windows over long texts.

import "fmt"

// Windows cuts n tokens into windows of at most room tokens, each of which shares stride tokens
// with the one before it; stride 0 is a quarter of room. Every window is as long as room when
// there are several, so the last one may share more.
func Windows(n, room, stride int) ([][2]int, error) {
	if n <= room {
		return [][2]int{{0, n}}, nil
	}
	if room < 1 {
		return nil, fmt.Errorf("a window has no room for the text: what stands around it fills the maximum length")
	}
	if stride == 0 {
		stride = room / 4
	}
	if stride >= room {
		return nil, fmt.Errorf("stride %d: a window has room for %d tokens of the text, the stride must be less", stride, room)
	}
	var out [][2]int
	for at := 0; ; at += room - stride {
		if at+room >= n {
			return append(out, [2]int{n - room, n}), nil
		}
		out = append(out, [2]int{at, at + room})
	}
}

// Central returns, for each of n tokens, the window in which the token is farthest from the ends
// of the window that are not ends of the text; the earlier one among equals.
func Central(n int, windows [][2]int) []int {
	out := make([]int, n)
	far := make([]int, n)
	for w, r := range windows {
		for t := r[0]; t < r[1]; t++ {
			distance := n
			if r[0] > 0 {
				distance = t - r[0]
			}
			if r[1] < n {
				distance = min(distance, r[1]-1-t)
			}
			if w == 0 || distance > far[t] || t >= windows[w-1][1] {
				out[t], far[t] = w, distance
			}
		}
	}
	return out
}
