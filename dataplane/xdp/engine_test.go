package xdp

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"systole/dataplane"
)

// A persistence engine reads what is in a packet: that is IPVS's to do.
func TestNoPersistenceEngine(t *testing.T) {
	svc := dataplane.Service{
		ServiceKey:  dataplane.ServiceKey{VIP: netip.MustParseAddr("192.0.2.1"), Port: 5060, Protocol: dataplane.UDP},
		Scheduler:   "rr",
		Persistence: dataplane.Persistence{Timeout: time.Minute, Engine: "sip"},
	}
	if err := Carries(svc); err == nil || !strings.Contains(err.Error(), `no persistence engine "sip"`) {
		t.Errorf("error %v", err)
	}
}
