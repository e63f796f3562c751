package cuda

import "testing"

// TestCTAs: a launch has a CTA for each tile, also in clusters whose last tiles have no rows, up to one for each
// multiprocessor.
func TestCTAs(t *testing.T) {
	down := Grid{Kind: GridTiles, TileM: 16, TileN: 32, N: 1536, Persistent: true}
	for _, c := range []struct {
		launch           Launch
		rows, items, sms int
		want             int
	}{
		{Launch{Grid: down}, 16, 0, 132, 48},
		{Launch{Grid: down}, 17, 0, 132, 96},
		{Launch{Grid: down, Cluster: 2}, 1, 0, 132, 96},
		{Launch{Grid: down, Cluster: 2}, 32, 0, 132, 96},
		{Launch{Grid: down, Cluster: 2}, 33, 0, 132, 132},
		{Launch{Grid: down, Cluster: 2}, 33, 0, 0, 192},
		{Launch{Grid: down, Cluster: 2}, 33, 0, 131, 130},
		{Launch{Grid: Grid{Kind: GridTiles, TileM: 16, TileN: 64, N: 100}}, 40, 0, 4, 6},
		{Launch{Grid: Grid{Kind: GridRows, TileM: 8}}, 17, 0, 2, 3},
		{Launch{Grid: Grid{Kind: GridItems, TileM: 48}}, 17, 9, 4, 9},
		{Launch{Grid: Grid{Kind: GridItems, TileM: 48, Persistent: true}}, 17, 9, 4, 4},
	} {
		if got := c.launch.CTAs(c.rows, c.items, c.sms); got != c.want {
			t.Errorf("%+v: %d rows, %d items, %d multiprocessors: %d CTAs, want %d", c.launch, c.rows, c.items, c.sms, got, c.want)
		}
	}
}
