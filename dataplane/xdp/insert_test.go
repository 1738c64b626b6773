package xdp

import (
	"testing"
	"time"

	"systole/dataplane"
)

// While the plane is detached another one has the packets: it may know a newer
// owner of a client's port. Attached, packets know better.
func TestInsertOfAnActiveAddress(t *testing.T) {
	for _, tt := range []struct {
		name     string
		detached bool
		here     time.Duration // since the last packet that came here
		age      time.Duration // since that of the other plane, as it tells
		replaced bool
	}{
		{"attached", false, time.Minute, 0, false},
		{"detached", true, time.Minute, 0, true},
		{"detached, in the same second", true, 0, time.Second, true},
		{"detached, of an earlier stay", true, 0, 10 * time.Second, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, on := ready(t, 1024, 2)
			on(client(0, "S"))
			on(client(0, "A"))
			p.grow(tt.here)
			var was dataplane.Flow
			for was = range p.Flows() {
			}
			now := was
			for _, r := range twoServices(2).Services[0].Servers {
				if r.Addr != was.Server {
					now.Server = r.Addr
				}
			}
			now.Age, now.Expires = tt.age, timeoutEstablished-tt.age
			jiffies, err := p.jiffies()
			if err != nil {
				t.Fatal(err)
			}
			p.mu.Lock()
			ok := p.insert(&now, uint32(jiffies>>p.kernel.aging.shift), tt.detached)
			p.mu.Unlock()
			var is dataplane.Flow
			for is = range p.Flows() {
			}
			if !ok || (is.Server == now.Server) != tt.replaced {
				t.Errorf("stored %v: it was %s, the other plane says %s, it is %s", ok, was.Server, now.Server, is.Server)
			}
		})
	}
}
