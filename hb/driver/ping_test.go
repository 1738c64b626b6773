package driver

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"systole/hb"
	"systole/hb/media"
	"systole/hb/wire"
)

// TestPingMedium: a ping node gets the questions and nothing else, and nobody
// else gets them.
func TestPingMedium(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, err := hb.New(hb.Config{
			Node: "a", UUID: [16]byte{1}, Generation: 1, Nodes: []string{"a", "b"}, Keepalive: keepalive, Deadtime: deadtime,
			Format: wire.Both, Keys: keys, Media: []string{"mem"}, Pings: []hb.PingNode{{Name: "gw", Medium: "ping gw"}},
		}, time.Now(), rand.New(rand.NewPCG(1, 1)))
		if err != nil {
			t.Fatal(err)
		}
		lan, machine := &cable{}, &cable{}
		r := &running{result: make(chan error, 1), events: make(chan hb.Event, 1000)}
		r.run(t, Config{Core: core, Media: []media.Medium{lan.plug("a", "mem"), machine.plug("a", "ping gw")}})
		time.Sleep(10 * keepalive)
		synctest.Wait()
		count := func(c *cable) (questions, others int) {
			for _, s := range c.from("a") {
				m, _, err := wire.Decode(s.data, keys)
				if err != nil {
					t.Fatal(err)
				}
				if m.Type() == "NS_st" {
					questions++
				} else {
					others++
				}
			}
			return questions, others
		}
		asked, wrong := count(machine)
		leaked, sent := count(lan)
		if asked < 10 || wrong != 0 || leaked != 0 || sent < asked {
			t.Errorf("to the ping node %d questions and %d others, to the LAN %d and %d", asked, wrong, leaked, sent)
		}
		if err := r.AddNodes([]string{"c"}); err != nil {
			t.Error(err)
		}
		if e := await[hb.NodesChanged](t, r); len(e.Nodes) != 3 {
			t.Errorf("%+v", e)
		}
		if err := r.RemoveNodes([]string{"a"}); err == nil {
			t.Error("removed itself")
		}
	})
}
