// Package api is the control socket: HTTP and JSON on a Unix socket, for the
// command line and for programs.
//
//	GET  /v1/status                     control.State
//	POST /v1/standby    {"class":"all"} hand groups to the peer
//	POST /v1/takeover   {"class":"all"} ask the peer for groups
//	POST /v1/reload                     read the config again
//	POST /v1/quiesce    {"server":"192.168.145.200","service":"192.168.145.101:80/tcp"}
//	POST /v1/resume     likewise; without service: all services of the server
//
//	POST /v1/messages   {"type":"app.deploy","fields":{"release":"7"},"binary":{"key":"AAEC"},"dest":"node2","wait":"10s"}
//	                    send a message to the cluster: {"node":"node1","seq":17}
//	GET  /v1/events     ?kinds=message,node,link,view&type=app.deploy
//	                    hear the cluster: client.Event, one a line
//
//	GET  /v1/flows      ?plane=xdp&client=10.0.0.0/8&port=&service=192.168.145.101:80/tcp&server=192.168.145.200&state=ESTABLISHED&by=server&limit=100
//	                    the flow table, or counts of it: FlowLine, one a line; all parameters are optional
//	POST /v1/observe    {"client":"10.0.0.1","service":"192.168.145.101:80/tcp","server":"","verdicts":["tx"],"snap":128,"in":true,"out":true,"rate":1000}
//	                    single packets and what became of them: ObserveLine, one a line, until the reader leaves
//
// A refused request answers 4xx with {"error": "..."}; nothing has changed then.
// A message for which there was no room within its wait (default 10s, at most
// 1h) answers 503; it was not sent. A program that leaves while its message
// waits takes it along.
//
// A stream of events begins with one of kind start, and how nodes and links
// are. If it ends with one of kind end, that says why, and how many events were
// left out as the program did not read them; if it ends without, the director
// was killed.
//
// Package control/client is all this for programs in Go.
//
// The socket has mode 0600: whoever may open it may steer the director.
package api
