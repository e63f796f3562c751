package rt

import "testing"

func TestAuxvEntry(t *testing.T) {
	auxv := make([]byte, 40) // the last entry is cut off
	auxv[0], auxv[8] = atHWCAP, 1<<5
	auxv[16], auxv[24], auxv[25] = atHWCAP2, 1, 1<<6
	for entry, want := range map[uint64]uint64{atHWCAP: 1 << 5, atHWCAP2: 1<<14 | 1, 3: 0} {
		if got := auxvEntry(auxv, entry); got != want {
			t.Errorf("entry %d: %#x, want %#x", entry, got, want)
		}
	}
}
