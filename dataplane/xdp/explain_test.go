package xdp

import "testing"

func TestEveryReasonIsExplained(t *testing.T) {
	for i, name := range ReasonNames() {
		if name == "" {
			t.Errorf("reason %d has no name", i)
		} else if ExplainReason(name) == "" {
			t.Errorf("reason %s has no explanation in explain.go", name)
		}
	}
	if got := ExplainReason("nonsense"); got != "" {
		t.Errorf("an unknown reason is explained: %q", got)
	}
}
