// Package nearest finds the known name that an unknown one was probably meant to be. It imports
// nothing of the module.
package nearest

// Name returns the name of known that is fewest edits away from word, the first of equals, or ""
// when none is within a third of its length (two edits at least).
func Name(word string, known []string) string {
	best, distance := "", 0
	for _, k := range known {
		if d := Distance(word, k); d <= max(2, len(k)/3) && (best == "" || d < distance) {
			best, distance = k, d
		}
	}
	return best
}

// maxLength is how many bytes of a name are looked at, so that hostile names take no time.
const maxLength = 256

// Distance is the Levenshtein distance: how many bytes must be inserted, removed or replaced to
// turn a into b. Only the first 256 bytes of each count.
func Distance(a, b string) int {
	a, b = a[:min(len(a), maxLength)], b[:min(len(b), maxLength)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j]+1, row[j+1]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
