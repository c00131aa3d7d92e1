package opampsrv_test

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
	"github.com/open-telemetry/opamp-go/protobufs"
	"google.golang.org/protobuf/proto"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
	"github.com/bellwether-opamp/bellwether/opampsrv"
)

// Obligations 22 to 24 and 29, 30 (facts of the protocol, in the order of the
// specification).
func TestEveryMessageIsAnsweredWithItsUIDAndNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, opampsrv.Config{})
		p := h.dial()
		first := p.ask(full(1, 0))
		if first.GetCapabilities() != 0x7 {
			t.Errorf("first reply has capabilities %#x, want 0x7", first.GetCapabilities())
		}
		for seq := uint64(1); seq < 50; seq++ {
			want := &protobufs.ServerToAgent{InstanceUid: uid(1)}
			if got := p.ask(bare(1, seq)); !proto.Equal(got, want) {
				t.Fatalf("reply to heartbeat %d is %v", seq, got)
			}
		}
		if got := h.metric("messages_sent_total", "websocket"); got != 50 {
			t.Errorf("%v messages sent, want 50", got)
		}
	})
}

// Obligations 9, 10, 25, 27, 58: whatever is wrong, the answer is BAD_REQUEST with
// nothing else, and the next good message is served.
func TestBadMessagesGetBadRequestAndTheConnectionLives(t *testing.T) {
	for name, frame := range map[string][]byte{
		"header is not zero":     {7, 0x0a},
		"garbage":                {0, 0xff, 0xff, 0xff},
		"only the header":        {0},
		"nothing":                {},
		"endless header":         bytes.Repeat([]byte{0x80}, 20),
		"uid of 15 bytes":        append([]byte{0, 0x0a, 15}, make([]byte, 15)...),
		"uid of 17 bytes":        append([]byte{0, 0x0a, 17}, bytes.Repeat([]byte{1}, 17)...),
		"uid of 26 bytes (ULID)": append([]byte{0, 0x0a, 26}, bytes.Repeat([]byte{'A'}, 26)...),
		"uid of zeros":           append([]byte{0, 0x0a, 16}, make([]byte, 16)...),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := start(t, opampsrv.Config{})
				p := h.dial()
				p.raw(websocket.BinaryMessage, frame)
				in := p.got()
				if len(in) != 1 || in[0].GetErrorResponse().GetType() != protobufs.ServerErrorResponseType_ServerErrorResponseType_BadRequest {
					t.Fatalf("got %v, want BAD_REQUEST", in)
				}
				if in[0].GetErrorResponse().GetErrorMessage() == "" || in[0].GetCapabilities() != 0 || in[0].GetFlags() != 0 {
					t.Errorf("got %v, want an error message and no other field", in[0])
				}
				if got := p.ask(full(1, 0)); got.GetErrorResponse() != nil || got.GetCapabilities() == 0 {
					t.Errorf("the next good message got %v", got)
				}
				if r := h.taken(); len(r) != 1 || r[0].Agent != agentID(1) {
					t.Errorf("reports: %v, want only the good one", r)
				}
			})
		})
	}
}

func TestATextFrameGetsBadRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, opampsrv.Config{}).dial()
		p.raw(websocket.TextMessage, []byte("hello"))
		if in := p.got(); len(in) != 1 || in[0].GetErrorResponse() == nil {
			t.Fatalf("got %v", in)
		}
	})
}

// Obligations 35 and 37.
func TestAGapAsksForTheFullStateExactlyOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, opampsrv.Config{}).dial()
		for _, step := range []struct {
			m    *protobufs.AgentToServer
			want bool
		}{
			{full(1, 0), false}, {bare(1, 1), false}, {bare(1, 2), false},
			{bare(1, 5), true},
			{bare(1, 6), false}, // asked already
			{full(1, 7), false}, // the answer
			{bare(1, 8), false},
			{bare(1, 8), false}, // a repeated message: obligation 38
			{bare(1, 12), true}, // the next gap
			{full(1, 20), false},
			{full(1, 0), true}, // the agent's process restarted: the number does not fit
			{full(1, 1), false},
		} {
			if got := asksFullState(p.ask(step.m)); got != step.want {
				t.Fatalf("seq %d: asks %v, want %v", step.m.GetSequenceNum(), got, step.want)
			}
		}
		for seq := uint64(2); seq < 1000; seq++ {
			if asksFullState(p.ask(bare(1, seq))) {
				t.Fatalf("asked again at %d", seq)
			}
		}
	})
}

// Obligation 36: a server that knows nothing asks, once, and re-asks on a new
// connection as long as it got nothing.
func TestABareFirstMessageAsksForTheFullState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, opampsrv.Config{})
		p := h.dial()
		if !asksFullState(p.ask(bare(1, 34))) || asksFullState(p.ask(bare(1, 35))) {
			t.Fatal("want one question, in the first reply")
		}
		_ = p.ws.Close()
		p = h.dial()
		if !asksFullState(p.ask(bare(1, 36))) || asksFullState(p.ask(full(1, 37))) {
			t.Fatal("want the question again on the new connection, until it is answered")
		}
	})
}

// Obligation 39, and the rule that a new session knows the status it had.
func TestAReconnectThatContinuesTheSequenceIsNotAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, opampsrv.Config{})
		p := h.dial()
		d, _ := config("a: 1")
		p.ask(says(full(1, 0), applied, d))
		_ = p.ws.Close()
		before := h.taken()
		if len(before) != 2 || !before[1].Gone || before[1].Session != before[0].Session {
			t.Fatalf("reports: %+v", before)
		}
		if asksFullState(h.dial().ask(bare(1, 1))) {
			t.Error("asked for the full state")
		}
		after := h.taken()
		if len(after) != 1 || after[0].Session <= before[0].Session {
			t.Fatalf("reports: %+v", after)
		}
		if r := after[0].Remote; r == nil || r.Delivery != d || r.Status != fleet.Applied {
			t.Errorf("the new session starts with status %+v", r)
		}
	})
}

// Obligations 34 and 31.
func TestLeftOutPartsAreUnchangedAndCapabilitiesFollowTheLastMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, opampsrv.Config{})
		p := h.dial()
		p.ask(full(1, 0))
		p.ask(bare(1, 1))
		poll := bare(1, 2)
		poll.Capabilities = 0
		p.ask(poll)
		less := bare(1, 3)
		less.Capabilities = 0x1
		p.ask(less)
		r := h.taken()
		if len(r) != 4 || r[0].Labels == nil || r[1].Labels != nil || r[1].Health != nil || r[1].Remote != nil {
			t.Fatalf("reports: %+v", r)
		}
		if uint64(r[2].Capabilities) != supervisor || r[3].Capabilities != 0x1 {
			t.Errorf("capabilities %#x, %#x", r[2].Capabilities, r[3].Capabilities)
		}
		d, c := config("a: 1")
		if err := h.srv.Offer(agentID(1), d, c); err == nil {
			t.Error("an agent that no longer accepts configs was offered one")
		}
	})
}

// Obligations 54, 56, 57.
func TestAgentsOnOneConnectionAreIndependent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, opampsrv.Config{})
		p := h.dial()
		for n := byte(1); n <= 3; n++ {
			if got := p.ask(full(n, uint64(n)*100)); !bytes.Equal(got.GetInstanceUid(), uid(n)) || asksFullState(got) || got.GetCapabilities() == 0 {
				t.Errorf("agent %d got %v", n, got)
			}
		}
		if !asksFullState(p.ask(bare(2, 205))) || asksFullState(p.ask(bare(1, 101))) {
			t.Error("the gap of one agent is not its own")
		}
		d := h.offer(3, "three: 3")
		in := p.got()
		if len(in) != 1 || !bytes.Equal(in[0].GetInstanceUid(), uid(3)) || !bytes.Equal(in[0].GetRemoteConfig().GetConfigHash(), d.Wire()) {
			t.Fatalf("offer to the third: %v", in)
		}
		h.taken()
		bye := bare(1, 102)
		bye.AgentDisconnect = &protobufs.AgentDisconnect{}
		p.ask(bye)
		gone := h.taken()
		if len(gone) != 2 || !gone[1].Gone || gone[1].Agent != agentID(1) {
			t.Fatalf("after the goodbye of one: %+v", gone)
		}
		_ = p.ws.Close()
		if gone = h.taken(); len(gone) != 2 || !gone[0].Gone || !gone[1].Gone {
			t.Fatalf("after the end of the connection: %+v", gone)
		}
	})
}

// Obligation 55: a reconnect is no duplicate, even while the old connection
// looks alive and its last words arrive late; and its end changes nothing.
func TestAReconnectBeforeTheOldConnectionEndedIsNoDuplicate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, opampsrv.Config{})
		old, fresh := h.mute(), h.dial() // nobody is there any more to answer a ping
		old.send(full(1, 7))
		synctest.Wait()
		fresh.ask(bare(1, 9))
		old.send(bare(1, 8))
		synctest.Wait()
		if in := fresh.got(); len(in) != 0 {
			t.Errorf("late words led to %v", in)
		}
		_ = old.ws.Close()
		r := h.taken()
		var a fleet.Agent
		for _, r := range r {
			a = fleet.Fold(a, r)
		}
		if len(r) != 2 || !a.Connected {
			t.Errorf("reports: %+v", r)
		}
		h.offer(1, "a: 1")
		if in := fresh.got(); len(in) != 1 || in[0].GetRemoteConfig() == nil {
			t.Errorf("offer went to %v", in)
		}
	})
}

// A Supervisor that gets new connection settings says goodbye on one connection
// and starts again on the next within a millisecond, in any order for us.
func TestAGoodbyeAfterTheReconnectChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, opampsrv.Config{})
		old, fresh := h.dial(), h.dial()
		old.ask(full(1, 7))
		fresh.ask(full(1, 0))
		h.taken()
		bye := bare(1, 8)
		bye.AgentDisconnect = &protobufs.AgentDisconnect{}
		old.ask(bye)
		if in, r := fresh.got(), h.taken(); len(in) != 0 || len(r) != 0 {
			t.Errorf("messages %v, reports %+v", in, r)
		}
	})
}

// Obligations 55 and 25, 26.
func TestTwoLiveConnectionsWithOneUIDTheNewerIsRenamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, opampsrv.Config{})
		older, newer := h.dial(), h.dial()
		older.ask(full(1, 0))
		newer.ask(full(1, 0))
		older.ask(bare(1, 1)) // alive: so there are two
		in := newer.got()
		if len(in) != 1 {
			t.Fatalf("the newer one got %v", in)
		}
		to := in[0].GetAgentIdentification().GetNewInstanceUid()
		if len(to) != 16 || to[6]>>4 != 7 || !bytes.Equal(in[0].GetInstanceUid(), uid(1)) {
			t.Fatalf("renaming: %v", in[0])
		}
		h.taken()
		again := newer.ask(bare(1, 1)) // did not obey yet
		if !bytes.Equal(again.GetAgentIdentification().GetNewInstanceUid(), to) {
			t.Errorf("told %x first, then %v", to, again)
		}
		if r := h.taken(); len(r) != 0 {
			t.Errorf("an agent to be renamed made reports: %+v", r)
		}
		m := full(1, 2)
		m.InstanceUid = to
		newer.ask(m)
		if r := h.taken(); len(r) != 1 || !bytes.Equal(r[0].Agent[:], to) {
			t.Errorf("under the new uid: %+v", r)
		}
		if got := older.ask(bare(1, 2)); got.GetAgentIdentification() != nil {
			t.Errorf("the older one got %v", got)
		}
	})
}

// Obligation 26.
func TestAnAgentThatAsksGetsOneNewUID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, opampsrv.Config{})
		p := h.dial()
		m := full(1, 0)
		m.Flags = 1
		to := p.ask(m).GetAgentIdentification().GetNewInstanceUid()
		if len(to) != 16 || to[6]>>4 != 7 {
			t.Fatalf("new uid %x", to)
		}
		if again := p.ask(m).GetAgentIdentification().GetNewInstanceUid(); !bytes.Equal(again, to) {
			t.Errorf("new uid %x, then %x", to, again)
		}
		m = bare(1, 1)
		m.InstanceUid = to
		if !asksFullState(p.ask(m)) {
			t.Error("the state under the new uid is not asked for")
		}
		if r := h.taken(); len(r) != 1 || !bytes.Equal(r[0].Agent[:], to) {
			t.Errorf("reports: %+v, want none of the temporary uid", r)
		}
	})
}

// Obligation 51: once for each agent, to those that can, without an endpoint.
func TestTheHeartbeatIntervalIsOfferedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, opampsrv.Config{HeartbeatInterval: 7 * time.Second})
		p := h.dial()
		able := full(1, 0)
		able.Capabilities |= 0x100
		s := p.ask(able).GetConnectionSettings()
		if s.GetOpamp().GetHeartbeatIntervalSeconds() != 7 || s.GetOpamp().GetDestinationEndpoint() != "" || len(s.GetHash()) == 0 {
			t.Errorf("offered %v", s)
		}
		if s := p.ask(bare(1, 1)).GetConnectionSettings(); s != nil {
			t.Errorf("offered again: %v", s)
		}
		if s := p.ask(full(2, 0)).GetConnectionSettings(); s != nil {
			t.Errorf("offered to one that does not accept it: %v", s)
		}
		_ = p.ws.Close()
		m := bare(1, 2)
		m.Capabilities |= 0x100
		if s := h.dial().ask(m).GetConnectionSettings(); s != nil {
			t.Errorf("offered again after a reconnect: %v", s)
		}
	})
}
