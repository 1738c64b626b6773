package metrics

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"systole/control"
	"systole/dataplane/flowsync"
)

func TestMetricsOfFlowSync(t *testing.T) {
	s := sample()
	c := NewCollector(func(context.Context) (*control.State, error) { return s, nil })
	without, err := testutil.CollectAndLint(c)
	if err != nil || len(without) > 0 {
		t.Fatal(without, err)
	}
	s.Sync = &flowsync.State{Peer: true, InSync: true, Lag: 30 * time.Millisecond, Stats: flowsync.Stats{
		Sent: flowsync.Counters{Flows: 7, Bytes: 300, Messages: 2}, Received: flowsync.Counters{Flows: 1}, Missed: 4, Resent: 5,
	}}
	if problems, err := testutil.CollectAndLint(c); err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
	want := `
# HELP systole_sync_in_sync 1 if the other director has confirmed our whole flow table.
# TYPE systole_sync_in_sync gauge
systole_sync_in_sync 1
# HELP systole_sync_complete 1 if we have the other director's whole flow table.
# TYPE systole_sync_complete gauge
systole_sync_complete 0
# HELP systole_sync_lag_seconds Age of the oldest message of flow synchronisation that is not confirmed.
# TYPE systole_sync_lag_seconds gauge
systole_sync_lag_seconds 0.03
# HELP systole_sync_flows_total Flows carried, by direction: those stored, if received.
# TYPE systole_sync_flows_total counter
systole_sync_flows_total{direction="received"} 1
systole_sync_flows_total{direction="sent"} 7
# HELP systole_sync_resent_flows_total Flows sent again, because the other director had missed them.
# TYPE systole_sync_resent_flows_total counter
systole_sync_resent_flows_total 5
`
	if err := testutil.CollectAndCompare(c, strings.NewReader(want), "systole_sync_in_sync", "systole_sync_complete", "systole_sync_lag_seconds", "systole_sync_flows_total", "systole_sync_resent_flows_total"); err != nil {
		t.Error(err)
	}
}
