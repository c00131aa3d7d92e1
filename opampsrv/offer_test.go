package opampsrv_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/open-telemetry/opamp-go/protobufs"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
	"github.com/bellwether-opamp/bellwether/opampsrv"
)

// Obligations 43 to 45.
func TestAnOfferIsPushedWholeAndOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, opampsrv.Config{})
		p := h.dial()
		p.ask(full(1, 0))
		d := h.offer(1, "receivers: {}")
		in := p.got()
		if len(in) != 1 {
			t.Fatalf("got %v", in)
		}
		rc := in[0].GetRemoteConfig()
		file := rc.GetConfig().GetConfigMap()[""]
		if !bytes.Equal(rc.GetConfigHash(), d.Wire()) || string(file.GetBody()) != "receivers: {}" || file.GetContentType() != "text/yaml" {
			t.Errorf("got %v", rc)
		}
		if !bytes.Equal(in[0].GetInstanceUid(), uid(1)) || in[0].GetCapabilities() != 0 {
			t.Errorf("got %v", in[0])
		}
		for seq := uint64(1); seq < 10; seq++ {
			if p.ask(bare(1, seq)).GetRemoteConfig() != nil { // obligation 42
				t.Fatal("offered again with a heartbeat's reply")
			}
		}
	})
}

// The never-send list.
func TestWhatMustNeverBeSentIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, opampsrv.Config{MaxMessage: 4096})
		p := h.dial()
		p.ask(full(1, 0))
		deaf := full(2, 0)
		deaf.Capabilities = 0x4805 // the opampextension
		p.ask(deaf)
		good, goodConfig := config("a: 1")
		bad, badConfig := config("bad: 1")
		p.ask(says(bare(1, 1), failed, bad))

		file := func(name, body string) fleet.File { return fleet.File{Name: name, Body: []byte(body)} }
		emptyMap := fleet.NewConfig()
		emptyFile := fleet.NewConfig(file("", ""))
		blank := fleet.NewConfig(file("a", "a: 1"), file("b", " \n\t"))
		twice := fleet.NewConfig(file("a", "a: 1"), file("a", "a: 2"))
		huge := fleet.NewConfig(file("", strings.Repeat("x", 4096)))
		for _, tc := range []struct {
			name  string
			agent byte
			d     fleet.Delivery
			c     fleet.Config
			want  error
		}{
			{"empty map", 1, fleet.Delivery{Config: emptyMap.Hash}, emptyMap, opampsrv.ErrNeverSend},
			{"empty file", 1, fleet.Delivery{Config: emptyFile.Hash}, emptyFile, opampsrv.ErrNeverSend},
			{"blank file", 1, fleet.Delivery{Config: blank.Hash}, blank, opampsrv.ErrNeverSend},
			{"two files of one name", 1, fleet.Delivery{Config: twice.Hash}, twice, opampsrv.ErrNeverSend},
			{"over the limit", 1, fleet.Delivery{Config: huge.Hash}, huge, opampsrv.ErrNeverSend},
			{"no hash", 1, fleet.Delivery{}, fleet.Config{Files: goodConfig.Files}, opampsrv.ErrNeverSend},
			{"another config's hash", 1, good, badConfig, opampsrv.ErrNeverSend},
			{"accepts no remote config", 2, good, goodConfig, opampsrv.ErrNeverSend},
			{"said FAILED to it", 1, bad, badConfig, opampsrv.ErrNeverSend},
			{"another attempt is another delivery", 1, fleet.Delivery{Config: bad.Config, Attempt: 1}, badConfig, nil},
			{"unknown agent", 9, good, goodConfig, opampsrv.ErrNotConnected},
		} {
			if err := h.srv.Offer(agentID(tc.agent), tc.d, tc.c); !errors.Is(err, tc.want) {
				t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
			}
		}
		if in := p.got(); len(in) != 1 {
			t.Errorf("the agents got %v, want the other attempt only", in)
		}
		if p.ended() != nil {
			t.Error("the connection did not survive")
		}
	})
}

// A delivery that is refused while it waits does not leave any more, and a
// reconnect does not wipe the memory of it.
func TestAWaitingOfferIsDroppedWhenTheAgentSaysFailedToIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, opampsrv.Config{})
		client := dialer(h)
		post(t, client, full(1, 0))
		d := h.offer(1, "a: 1") // waits for the next poll
		if got := post(t, client, says(bare(1, 1), failed, d)); got.GetRemoteConfig() != nil {
			t.Errorf("sent %v", got)
		}
		p := h.dial()
		p.ask(bare(1, 2))
		_, c := config("a: 1")
		if err := h.srv.Offer(agentID(1), d, c); !errors.Is(err, opampsrv.ErrNeverSend) {
			t.Errorf("offered after a reconnect: %v", err)
		}
	})
}

// Obligation 46.
func TestTheNewestOfferWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, opampsrv.Config{})
		p := h.mute()
		p.send(full(1, 0)) // its reply is stuck: nobody reads
		synctest.Wait()
		h.offer(1, "a: 1")
		h.offer(1, "a: 2")
		want := h.offer(1, "a: 3")
		go p.read()
		var offers [][]byte
		for _, m := range p.got() {
			if rc := m.GetRemoteConfig(); rc != nil {
				offers = append(offers, rc.GetConfigHash())
			}
		}
		if len(offers) != 1 || !bytes.Equal(offers[0], want.Wire()) {
			t.Errorf("got %d offers: %x", len(offers), offers)
		}
	})
}

// An offer that waits rides with the next reply, and replies keep their order.
func TestRepliesKeepTheirOrderAndTakeTheOfferAlong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, opampsrv.Config{})
		p := h.mute()
		p.send(full(1, 0))
		p.send(full(2, 0))
		p.raw(2, []byte{0})
		p.send(bare(1, 5)) // a gap
		synctest.Wait()
		h.offer(1, "a: 1")
		go p.read()
		in := p.got()
		if len(in) != 4 {
			t.Fatalf("got %d messages: %v", len(in), in)
		}
		if !bytes.Equal(in[0].GetInstanceUid(), uid(1)) || !bytes.Equal(in[1].GetInstanceUid(), uid(2)) ||
			in[2].GetErrorResponse() == nil || !asksFullState(in[3]) || in[3].GetRemoteConfig() == nil {
			t.Errorf("got %v", in)
		}
	})
}

func TestOffersEndWithTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, opampsrv.Config{})
		p := h.mute()
		p.send(full(1, 0))
		synctest.Wait()
		d := h.offer(1, "a: 1")
		_ = p.ws.Close()
		synctest.Wait()
		_, c := config("a: 1")
		if err := h.srv.Offer(agentID(1), d, c); !errors.Is(err, opampsrv.ErrNotConnected) {
			t.Errorf("offer to an agent that went: %v", err)
		}
		if got := h.dial().ask(bare(1, 1)); got.GetRemoteConfig() != nil {
			t.Errorf("the next session got the offer of the last: %v", got)
		}
	})
}

// Obligation 21 of the proposed cases: a stalled reader.
func TestAStalledReaderDelaysNobodyAndIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, opampsrv.Config{SendTimeout: 10 * time.Second})
		stalled, lively := h.mute(), h.dial()
		stalled.send(full(1, 0))
		lively.ask(full(2, 0))
		h.offer(1, strings.Repeat("a: 1\n", 10_000))
		begin := time.Now()
		h.offer(2, "a: 1")
		if in := lively.got(); len(in) != 1 || in[0].GetRemoteConfig() == nil {
			t.Fatalf("the lively one got %v", in)
		}
		if took := time.Since(begin); took != 0 {
			t.Errorf("its offer took %v", took)
		}
		h.taken()
		time.Sleep(10*time.Second + time.Millisecond)
		if r := h.taken(); len(r) != 1 || !r[0].Gone || r[0].Agent != agentID(1) {
			t.Fatalf("after the send timeout: %+v", r)
		}
		if h.metric("connections_closed_total", "websocket", "slow") != 1 || h.srv.Connections() != 1 {
			t.Errorf("%d connections left", h.srv.Connections())
		}
	})
}

// A peer that sends and never reads is not read from for ever.
func TestAFloodWithoutReadingIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, opampsrv.Config{})
		p := h.mute()
		p.send(full(1, 0))
		n := 0
		for seq := uint64(1); ; seq++ {
			_ = p.ws.SetWriteDeadline(time.Now().Add(time.Minute))
			b := append([]byte{0, 0x0a, 16}, uid(1)...)
			if err := p.ws.WriteMessage(2, b); err != nil {
				break
			}
			n++
		}
		if n > 100 {
			t.Errorf("%d messages were taken from a peer that reads no replies", n)
		}
		if r := h.taken(); !r[len(r)-1].Gone {
			t.Error("the agent is still there")
		}
	})
}

// Obligation 41 as it is split here: the report of a stale hash goes up, and what
// comes back at once goes out; an equal hash leads to nothing.
func TestAStatusIsReportedInOurTerms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, opampsrv.Config{})
		p := h.dial()
		d, _ := config("a: 1")
		d.Attempt = 3
		m := says(full(1, 0), failed, d)
		m.RemoteConfigStatus.ErrorMessage = strings.Repeat("é", 4000)
		m.EffectiveConfig = &protobufs.EffectiveConfig{ConfigMap: &protobufs.AgentConfigMap{
			ConfigMap: map[string]*protobufs.AgentConfigFile{"": {Body: []byte("12345")}},
		}}
		p.ask(m)
		foreign := bare(1, 1)
		foreign.RemoteConfigStatus = &protobufs.RemoteConfigStatus{LastRemoteConfigHash: []byte("somebody else's"), Status: 99}
		p.ask(foreign)
		r := h.taken()
		if len(r) != 2 {
			t.Fatalf("reports: %+v", r)
		}
		s := r[0].Remote
		if s.Delivery != d || s.Status != fleet.Failed || len(s.Error) != 1024 {
			t.Errorf("status %+v (error of %d bytes)", s, len(s.Error))
		}
		if e := r[0].Effective; e.Size != 5 || e.Hash.IsZero() {
			t.Errorf("effective %+v", e)
		}
		if s := r[1].Remote; !s.Foreign || !s.Delivery.IsZero() || s.Status != fleet.Unset {
			t.Errorf("foreign status %+v", s)
		}
	})
}
