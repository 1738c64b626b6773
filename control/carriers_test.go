package control

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"systole/dataplane"
	"systole/dataplane/fallback"
	"systole/dataplane/planetest"
)

// withIPVS gives the director's plane a second one beside it.
func withIPVS(absent string) func(*world) {
	return func(w *world) {
		carries := func(plane, scheduler string) func(dataplane.Service) error {
			return func(s dataplane.Service) error {
				if s.Scheduler == scheduler {
					return fmt.Errorf("the %s plane has no scheduler %s", plane, scheduler)
				}
				return nil
			}
		}
		ipvs := fallback.Member{Name: "ipvs", Carries: carries("ipvs", "odd"), Why: absent}
		if absent == "" {
			ipvs.Plane = planetest.NewFake(nil)
		}
		w.both = fallback.New(fallback.Config{
			XDP: fallback.Member{Name: "xdp", Carries: carries("xdp", "wrr"), Plane: w}, IPVS: ipvs,
			Log: slog.New(slog.DiscardHandler), Now: time.Now,
		})
	}
}

func (w *world) lose(gone bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gone, w.refuse = gone, nil
	if gone {
		w.refuse = dataplane.ErrUnavailable
	}
}

func said(s *State, text string) bool {
	return slices.ContainsFunc(s.Events, func(e EventState) bool { return strings.Contains(e.Text, text) })
}

// Status says of each service which plane carries it and why, and a change of
// it is an event.
func TestStatusSaysWhoCarriesAService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d, _ := startDirector(t, withIPVS(""))
		w.alone()
		s := status(t, d)
		if svc := s.Services[0]; svc.Plane != "xdp" || svc.PlaneWhy != "" || s.PlaneChoice != "auto" || len(s.Planes) != 2 {
			t.Errorf("%+v %s %+v", svc, s.PlaneChoice, s.Planes)
		}

		w.next.Services[0].Scheduler = "wrr"
		if err := d.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		s = status(t, d)
		if svc := s.Services[0]; svc.Plane != "ipvs" || svc.PlaneWhy != "the xdp plane has no scheduler wrr" || s.Planes[0].Leaving != 1 {
			t.Errorf("%+v", svc)
		}
		if !said(s, "service 192.168.145.101:80/tcp is carried by ipvs: the xdp plane has no scheduler wrr") {
			t.Errorf("%+v", s.Events)
		}
	})
}

func TestAReloadThatNoPlaneCanCarryIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d, _ := startDirector(t, withIPVS("this kernel has no IPVS"))
		w.alone()
		w.next.Services[0].Scheduler = "wrr"
		err := d.Reload(t.Context())
		if !errors.Is(err, dataplane.ErrInvalid) || !strings.Contains(err.Error(), "no plane can carry it: xdp: the xdp plane has no scheduler wrr, and ipvs: this kernel has no IPVS") {
			t.Errorf("%v", err)
		}
		s := status(t, d)
		if s.Services[0].Scheduler != "rr" || s.Services[0].Plane != "xdp" || s.Config.ReloadOK {
			t.Errorf("%+v", s.Services[0])
		}
	})
}

// The interface goes: IPVS has it all and the director is degraded; without
// IPVS nobody has it, which is critical.
func TestXDPDetached(t *testing.T) {
	for _, tt := range []struct{ absent, plane, why, health string }{
		{"", "ipvs", "interface eth0 is gone", "degraded"},
		{"this kernel has no IPVS", "", "xdp: interface eth0 is gone; ipvs: this kernel has no IPVS", "critical"},
	} {
		synctest.Test(t, func(t *testing.T) {
			w, d, _ := startDirector(t, withIPVS(tt.absent))
			w.alone()
			w.lose(true)
			time.Sleep(2 * housekeepingPeriod)
			s := status(t, d)
			if svc := s.Services[0]; svc.Plane != tt.plane || svc.PlaneWhy != tt.why || s.Health != tt.health {
				t.Errorf("%s %q: %q %+v", s.Health, s.Problems, svc.Plane, svc.PlaneWhy)
			}
			if !said(s, "carried by "+map[bool]string{true: "no plane: ", false: "ipvs: "}[tt.plane == ""]) || !slices.Contains(s.Problems, "data plane fake: interface eth0 is gone") {
				t.Errorf("%+v, %q", s.Events, s.Problems)
			}
			w.lose(false)
			time.Sleep(2 * housekeepingPeriod)
			s = status(t, d)
			if svc := s.Services[0]; svc.Plane != "xdp" || svc.PlaneWhy != "" || !said(s, "service 192.168.145.101:80/tcp is carried by xdp") {
				t.Errorf("%+v, %+v", svc, s.Events)
			}
		})
	}
}

func TestPlaneCommand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d, _ := startDirector(t, withIPVS(""))
		w.alone()
		if err := d.ChoosePlane(t.Context(), "ipvs"); err != nil {
			t.Fatal(err)
		}
		s := status(t, d)
		if svc := s.Services[0]; s.PlaneChoice != "ipvs" || svc.Plane != "ipvs" || svc.PlaneWhy != "chosen by the operator" || w.servers() != "192.168.145.200=0 192.168.145.201=0" {
			t.Errorf("%s %+v, servers %s", s.PlaneChoice, svc, w.servers())
		}
		if !said(s, "plane ipvs") {
			t.Errorf("%+v", s.Events)
		}
		if err := d.ChoosePlane(t.Context(), "auto"); err != nil || w.servers() != "192.168.145.200=1 192.168.145.201=3" {
			t.Errorf("%v, servers %s", err, w.servers())
		}
	})
	synctest.Test(t, func(t *testing.T) {
		w, d, _ := startDirector(t, withIPVS("this kernel has no IPVS"))
		w.alone()
		for plane, want := range map[string]string{"ipvs": "plane ipvs: this kernel has no IPVS", "katran": `plane "katran": want auto, xdp or ipvs`} {
			if err := d.ChoosePlane(t.Context(), plane); err == nil || err.Error() != want {
				t.Errorf("%v, want %s", err, want)
			}
		}
		if s := status(t, d); s.PlaneChoice != "auto" || s.Services[0].Plane != "xdp" {
			t.Errorf("%s, %+v", s.PlaneChoice, s.Services[0])
		}
	})
	synctest.Test(t, func(t *testing.T) {
		_, d, _ := startDirector(t)
		if err := d.ChoosePlane(t.Context(), "ipvs"); err == nil || err.Error() != "plane: there is one data plane only" {
			t.Errorf("%v", err)
		}
	})
}
