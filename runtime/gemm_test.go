package rt

import "testing"

// TestGemmPlace: every run of panels of every block is one item.
func TestGemmPlace(t *testing.T) {
	const blockM = 8
	for blocks := 1; blocks < 12; blocks++ {
		for across := 1; across < 5; across++ {
			for abreast := 1; abreast <= blocks; abreast++ {
				g := grid{impl: &Impl{BlockM: blockM}, rows: blocks*blockM - 3, across: across, abreast: abreast}
				seen := map[[2]int]bool{}
				for item := range blocks * across {
					block, run := g.gemmPlace(item)
					if block < 0 || block >= blocks || run < 0 || run >= across || seen[[2]int{block, run}] {
						t.Fatalf("%d blocks of %d runs, %d abreast: item %d is run %d of block %d", blocks, across, abreast, item, run, block)
					}
					seen[[2]int{block, run}] = true
				}
			}
		}
	}
}

// TestFirstPanel: runs are whole groups, and they are all panels.
func TestFirstPanel(t *testing.T) {
	for panels := 1; panels < 30; panels++ {
		for group := 1; group < 4; group++ {
			for across := 1; across <= CeilDiv(panels, group); across++ {
				g := grid{kernel: &Kernel{Panels: panels, Group: group}, across: across}
				for run := range across {
					first, end := g.firstPanel(run), g.firstPanel(run+1)
					if first >= end || first%group != 0 || run == 0 && first != 0 || run == across-1 && end != panels {
						t.Fatalf("%d panels in groups of %d, run %d of %d: %d..%d", panels, group, run, across, first, end)
					}
				}
			}
		}
	}
}
