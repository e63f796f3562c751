package rt

import (
	"strings"
	"testing"
)

// TestAvoid: a tier that is slower than the next on a CPU with some trait is passed over there,
// with the reason, and still runs when it is asked for.
func TestAvoid(t *testing.T) {
	mod := &Module{Name: "m", Tiers: []Tier{{Name: "first", Avoid: []string{"slow first"}}, {Name: "second"}}}
	for _, tt := range []struct {
		trait, want, got string
	}{
		{"", "", "first"},
		{"slow first", "", "second"},
		{"slow second", "", "first"},
		{"slow first", "first", "first"},
		{"slow first", "portable", "portable"},
	} {
		tier, rejected, err := chooseTier(mod, tt.want, func(trait string) bool { return trait == tt.trait })
		if err != nil || tier.Name != tt.got {
			t.Errorf("trait %q, asked for %q: %s, %v; want %s", tt.trait, tt.want, tier.Name, err, tt.got)
		}
		for i, r := range rejected {
			if tt.trait == "slow first" && tt.want == "" && r.Tier == "first" && !strings.Contains(r.Reason, "slow first") {
				t.Errorf("the reason is %q", r.Reason)
			}
			for _, s := range rejected[:i] {
				if s.Tier == r.Tier {
					t.Errorf("trait %q, asked for %q: %s is rejected twice", tt.trait, tt.want, r.Tier)
				}
			}
		}
	}
}
