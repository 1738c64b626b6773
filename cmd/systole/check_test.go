package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"systole/control/config"
	"systole/dataplane"
)

func parsed(t *testing.T, services string) *config.Config {
	t.Helper()
	cfg, err := config.Parse("systole.yaml", []byte(`node: node1
cluster: {nodes: [node1]}
groups: [{name: web, vips: [{address: 192.0.2.101, interface: eth0}]}]
services:
`+services+"dataplane: {interface: eth0}\n"), "")
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// What XDP lacks moves a service to IPVS, and "systole check" does not keep it
// to itself. The services are such as the planes differ about by their nature.
func TestCheckSaysWhatCarriesAService(t *testing.T) {
	cfg := parsed(t, `
  - {virtual: '192.0.2.101:80', servers: [{address: 192.0.2.200}]}
  - {virtual: '192.0.2.101:81', scheduler: lblc, servers: [{address: 192.0.2.200}]}
`)
	got, err := carriers(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || !strings.HasPrefix(got[0], "service 192.0.2.101:81/tcp is carried by ipvs, not by xdp: ") || !strings.Contains(got[0], "lblc") {
		t.Errorf("%q", got)
	}
	cfg.DataPlane.Mode = "ipvs" // then it is no news
	if got, err := carriers(cfg); err != nil || len(got) != 0 {
		t.Errorf("%q, %v", got, err)
	}
}

func TestCheckRefusesWhatNoPlaneCanCarry(t *testing.T) {
	cfg := parsed(t, `
  - {virtual: '192.0.2.101:81', scheduler: lblc, timeouts: {tcp: 1h}, servers: [{address: 192.0.2.200}]}
`)
	_, err := carriers(cfg)
	if !errors.Is(err, dataplane.ErrInvalid) || !strings.Contains(fmt.Sprint(err), "service 192.0.2.101:81/tcp: no plane can carry it: xdp: ") {
		t.Errorf("%v", err)
	}
}

func TestWitnessCarriesNothing(t *testing.T) {
	cfg := parsed(t, "  - {virtual: '192.0.2.101:81', scheduler: lblc, timeouts: {tcp: 1h}, servers: [{address: 192.0.2.200}]}\n")
	cfg.Cluster.Witnesses, cfg.Node = []string{"node3"}, "node3"
	if got, err := carriers(cfg); err != nil || len(got) != 0 {
		t.Errorf("%q, %v", got, err)
	}
}

// TestReferenceIsCarried: what `check --reference` prints is a config that the
// planes of a machine with XDP and IPVS can carry.
func TestReferenceIsCarried(t *testing.T) {
	cfg, err := config.Parse("systole.reference.yaml", config.Reference, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := carriers(cfg); err != nil {
		t.Error(err)
	}
}
