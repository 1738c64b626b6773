package fallback

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"systole/dataplane"
)

var vip = netip.MustParseAddr("192.0.2.101")

func service(port uint16, scheduler string) dataplane.Service {
	return dataplane.Service{ServiceKey: dataplane.ServiceKey{VIP: vip, Port: port, Protocol: dataplane.TCP}, Scheduler: scheduler}
}

// without is a plane that lacks some schedulers.
func without(plane string, schedulers ...string) func(dataplane.Service) error {
	return func(s dataplane.Service) error {
		for _, name := range schedulers {
			if s.Scheduler == name {
				return errors.New("the " + plane + " plane has no scheduler " + name)
			}
		}
		return nil
	}
}

// IPVS carries a service that goes by connection IDs, and what it lacks is said
// while it does.
func TestDecideQUIC(t *testing.T) {
	svc := service(443, "rr")
	svc.Protocol, svc.ServerIDLength = dataplane.UDP, 4
	all := func(dataplane.Service) error { return nil }
	for _, c := range []struct {
		xdp, ipvs Candidate
		choice    Choice
		want      Carriage
	}{
		{Candidate{}, Candidate{}, Auto, Carriage{Plane: "xdp", Holds: [2]bool{true, true}}},
		{Candidate{Down: "it is gone"}, Candidate{}, Auto, Carriage{Plane: "ipvs", Why: "it is gone; " + byAddress, Holds: [2]bool{true, true}}},
		{Candidate{}, Candidate{}, IPVS, Carriage{Plane: "ipvs", Why: "chosen by the operator; " + byAddress, Holds: [2]bool{false, true}}},
		{Candidate{Absent: "there is none"}, Candidate{}, Auto, Carriage{Plane: "ipvs", Why: "there is none; " + byAddress, Holds: [2]bool{false, true}}},
		{Candidate{Absent: "there is none"}, Candidate{Down: "it is gone"}, Auto, Carriage{Why: "ipvs: it is gone; there is none", Holds: [2]bool{false, true}}},
	} {
		c.xdp.Name, c.ipvs.Name, c.xdp.Carries, c.ipvs.Carries = "xdp", "ipvs", all, all
		c.want.Service = svc.ServiceKey
		got, err := Decide([]dataplane.Service{svc}, c.xdp, c.ipvs, c.choice)
		if err != nil || len(got) != 1 || got[0] != c.want {
			t.Errorf("%+v, %v, want %+v", got, err, c.want)
		}
	}
}

// Three services: one for both planes, one for IPVS alone, one for XDP alone.
func TestDecide(t *testing.T) {
	const both, kernel, fast = "rr", "lblc", "timeouts"
	noFast, noKernel := "the ipvs plane has no scheduler "+fast, "the xdp plane has no scheduler "+kernel
	for _, c := range []struct {
		name       string
		xdp, ipvs  Candidate
		choice     Choice
		services   []string
		want, held string // plane: why; which planes hold it: X, I
	}{
		{"both there", Candidate{}, Candidate{}, Auto, []string{both, kernel, fast},
			"xdp | ipvs: " + noKernel + " | xdp", "XI I X"},
		{"xdp chosen", Candidate{}, Candidate{}, XDP, []string{both, kernel, fast},
			"xdp | ipvs: " + noKernel + " | xdp", "X I X"},
		{"ipvs chosen", Candidate{}, Candidate{}, IPVS, []string{both, kernel, fast},
			"ipvs: chosen by the operator | ipvs: " + noKernel + " | xdp: ipvs: " + noFast, "I I X"},
		{"xdp detached", Candidate{Down: "interface eth0 is gone"}, Candidate{}, Auto, []string{both, kernel, fast},
			"ipvs: interface eth0 is gone | ipvs: " + noKernel + " | : xdp: interface eth0 is gone; ipvs: " + noFast, "XI I X"},
		{"xdp detached, and chosen", Candidate{Down: "interface eth0 is gone"}, Candidate{}, XDP, []string{both},
			": xdp: interface eth0 is gone", "X"},
		{"xdp detached, no ipvs", Candidate{Down: "interface eth0 is gone"}, Candidate{Absent: "this kernel has no IPVS"}, Auto, []string{both},
			": xdp: interface eth0 is gone; ipvs: this kernel has no IPVS", "X"},
		{"no ipvs", Candidate{}, Candidate{Absent: "this kernel has no IPVS"}, Auto, []string{both, fast}, "xdp | xdp", "X X"},
		{"no xdp", Candidate{Absent: "dataplane.mode is ipvs"}, Candidate{}, Auto, []string{both, kernel},
			"ipvs: dataplane.mode is ipvs | ipvs: " + noKernel, "I I"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.xdp.Name, c.xdp.Carries = "xdp", without("xdp", kernel)
			c.ipvs.Name, c.ipvs.Carries = "ipvs", without("ipvs", fast)
			var services []dataplane.Service
			for i, s := range c.services {
				services = append(services, service(uint16(80+i), s))
			}
			got, err := Decide(services, c.xdp, c.ipvs, c.choice)
			if err != nil {
				t.Fatal(err)
			}
			var words, held []string
			for i, g := range got {
				if g.Service != services[i].ServiceKey {
					t.Errorf("%d is %s", i, g.Service)
				}
				text := g.Plane
				if g.Why != "" {
					text += ": " + g.Why
				}
				words = append(words, text)
				held = append(held, map[bool]string{true: "X"}[g.Holds[0]]+map[bool]string{true: "I"}[g.Holds[1]])
			}
			if diff := cmp.Diff(c.want, strings.Join(words, " | ")); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(c.held, strings.Join(held, " ")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestNoPlaneCanCarryIt(t *testing.T) {
	xdp := Candidate{Name: "xdp", Carries: without("xdp", "lblc", "odd")}
	ipvs := Candidate{Name: "ipvs", Carries: without("ipvs", "odd"), Absent: "this kernel has no IPVS"}
	_, err := Decide([]dataplane.Service{service(80, "rr"), service(81, "lblc"), service(82, "odd")}, xdp, ipvs, Auto)
	want := "invalid snapshot: service 192.0.2.101:81/tcp: no plane can carry it: xdp: the xdp plane has no scheduler lblc, and ipvs: this kernel has no IPVS; " +
		"service 192.0.2.101:82/tcp: no plane can carry it: xdp: the xdp plane has no scheduler odd, and ipvs: the ipvs plane has no scheduler odd"
	if !errors.Is(err, dataplane.ErrInvalid) || err.Error() != want {
		t.Errorf("%v", err)
	}
}

// Whatever the planes can do: who carries a service holds it, can carry it, and
// is not down; nobody holds what it cannot carry; and one is only idle with a
// service that another carries, or that nobody can carry now.
func TestDecideProperty(t *testing.T) {
	names := []string{"a", "b", "c", "d"}
	rapid.Check(t, func(t *rapid.T) {
		candidate := func(name string) Candidate {
			return Candidate{Name: name, Carries: without(name, rapid.SliceOfDistinct(rapid.SampledFrom(names), rapid.ID).Draw(t, "lacks")...),
				Absent: rapid.SampledFrom([]string{"", "", "absent"}).Draw(t, "absent"), Down: rapid.SampledFrom([]string{"", "down"}).Draw(t, "down")}
		}
		planes := [2]Candidate{candidate("xdp"), candidate("ipvs")}
		choice := Choice(rapid.IntRange(0, 2).Draw(t, "choice"))
		var services []dataplane.Service
		for i := range rapid.IntRange(0, 4).Draw(t, "services") {
			services = append(services, service(uint16(i+1), rapid.SampledFrom(names).Draw(t, "scheduler")))
		}
		got, err := Decide(services, planes[0], planes[1], choice)
		hopeless := false
		for _, s := range services {
			hopeless = hopeless || planes[0].never(s) != "" && planes[1].never(s) != ""
		}
		if (err != nil) != hopeless {
			t.Fatalf("%v, and hopeless is %v", err, hopeless)
		}
		for i, c := range got {
			able := false
			for j, p := range planes {
				can := p.never(services[i]) == ""
				able = able || can && p.Down == "" && (choice == Auto || p.never(services[i]) == "" && c.Holds[j])
				switch {
				case c.Holds[j] && !can:
					t.Errorf("%s holds %v and cannot carry it", p.Name, services[i])
				case c.Plane == p.Name && (!c.Holds[j] || p.Down != ""):
					t.Errorf("%s carries %v: %+v", p.Name, services[i], c)
				}
			}
			if able && c.Plane == "" || c.Plane == "" && c.Why == "" || c.Plane == "ipvs" && c.Why == "" {
				t.Errorf("%+v", c)
			}
		}
	})
}

func TestChoices(t *testing.T) {
	for _, c := range []Choice{Auto, XDP, IPVS} {
		if got, err := ParseChoice(c.String()); err != nil || got != c {
			t.Errorf("%v, %v", got, err)
		}
	}
	if _, err := ParseChoice("ip_vs"); err == nil || !strings.Contains(err.Error(), "want auto, xdp or ipvs") {
		t.Error(err)
	}
}
