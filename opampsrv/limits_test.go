package opampsrv_test

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"github.com/bellwether-opamp/bellwether/internal/sim"
	"github.com/bellwether-opamp/bellwether/opampsrv"
)

func closeCode(err error) int {
	if c, ok := errors.AsType[*websocket.CloseError](err); ok {
		return c.Code
	}
	return 0
}

// Obligation 11, for one frame and for many.
func TestAMessageOverTheLimitClosesWith1009(t *testing.T) {
	for name, write := range map[string]func(p *peer) error{
		"one frame": func(p *peer) error { return p.ws.WriteMessage(websocket.BinaryMessage, make([]byte, 1001)) },
		"fragments": func(p *peer) error {
			w, err := p.ws.NextWriter(websocket.BinaryMessage) // flushed each 100 bytes
			for err == nil {
				_, err = w.Write(make([]byte, 100))
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := start(t, opampsrv.Config{MaxMessage: 1000})
				ws, _, err := (&websocket.Dialer{NetDialContext: h.pipe.Dial, WriteBufferSize: 100}).Dial("ws://pipe/v1/opamp", nil)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = ws.Close() }()
				p := &peer{t: t, ws: ws}
				go p.read()
				_ = write(p)
				if got := closeCode(p.ended()); got != websocket.CloseMessageTooBig {
					t.Errorf("close code %d (%v)", got, p.ended())
				}
				if h.metric("connections_closed_total", "websocket", "too_big") != 1 {
					t.Error("not counted")
				}
			})
		})
	}
}

// Obligation 13, and shutdown as a whole.
func TestShutdownSendsCloseFramesAndIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, opampsrv.Config{CloseTimeout: 3 * time.Second})
		polite, stuck := h.dial(), h.mute()
		polite.ask(full(1, 0))
		stuck.send(full(2, 0))
		h.taken()
		begin := time.Now()
		h.stop()
		if took := time.Since(begin); took > 4*time.Second {
			t.Errorf("shutdown took %v", took)
		}
		if got := closeCode(polite.ended()); got != websocket.CloseGoingAway {
			t.Errorf("close code %d (%v)", got, polite.ended())
		}
		if r := h.taken(); len(r) != 2 || !r[0].Gone || !r[1].Gone {
			t.Errorf("reports: %+v", r)
		}
		if h.srv.Connections() != 0 || h.metric("connections", "websocket") != 0 {
			t.Errorf("%d connections left", h.srv.Connections())
		}
	})
}

// A peer that only answers pings stays; one that answers nothing goes.
func TestIdleConnectionsArePingedAndHalfOpenOnesEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, opampsrv.Config{IdleTimeout: 90 * time.Second})
		quiet, dead := h.dial(), h.mute()
		pings := 0
		quiet.ws.SetPingHandler(func(data string) error {
			pings++
			return quiet.ws.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(time.Second))
		})
		quiet.ask(full(1, 0))
		dead.send(full(2, 0))
		time.Sleep(time.Hour)
		if quiet.ended() != nil || h.srv.Connections() != 1 {
			t.Errorf("quiet peer ended with %v, %d connections left", quiet.ended(), h.srv.Connections())
		}
		if pings == 0 {
			t.Error("never pinged")
		}
		if r := h.taken(); len(r) != 3 || !r[2].Gone || r[2].Agent != agentID(2) {
			t.Errorf("reports: %+v", r)
		}
	})
}

func TestAPeerThatNeverAnswersPingsIsClosedAsIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, opampsrv.Config{IdleTimeout: 90 * time.Second})
		p := h.dial()
		p.ws.SetPingHandler(func(string) error { return nil })
		p.ask(full(1, 0))
		time.Sleep(89 * time.Second)
		if p.ended() != nil {
			t.Fatalf("ended early: %v", p.ended())
		}
		time.Sleep(2 * time.Second)
		if closeCode(p.ended()) != websocket.ClosePolicyViolation {
			t.Errorf("ended with %v", p.ended())
		}
		if h.metric("connections_closed_total", "websocket", "idle") != 1 {
			t.Error("not counted as idle")
		}
	})
}

// Answering pings is not enough to hold a connection that no agent uses.
func TestAConnectionWithoutAnAgentEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, opampsrv.Config{IdleTimeout: 85 * time.Second}).dial() // not when a ping is due
		time.Sleep(86 * time.Second)
		if closeCode(p.ended()) != websocket.ClosePolicyViolation {
			t.Errorf("ended with %v", p.ended())
		}
	})
}

// Obligations 4 and 6.
func TestUpgradesAreRefusedWithoutAuthenticationOrRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, opampsrv.Config{MaxConnections: 1, Authenticate: func(r *http.Request) error {
			if r.Header.Get("Authorization") != "Bearer good" {
				return errors.New("the token is not s3cret")
			}
			return nil
		}})
		dial := func(token string) (*websocket.Conn, *http.Response, error) {
			d := websocket.Dialer{NetDialContext: h.pipe.Dial}
			return d.Dial("ws://pipe/v1/opamp", http.Header{"Authorization": {"Bearer " + token}})
		}
		_, resp, err := dial("bad")
		if err == nil || resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("bad token: %v %v", resp, err)
		}
		body := make([]byte, 100)
		n, _ := resp.Body.Read(body)
		if got := string(body[:n]); got != "unauthorized\n" {
			t.Errorf("the refusal says %q", got)
		}
		ws, _, err := dial("good")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = ws.Close() }()
		synctest.Wait()
		_, resp, err = dial("good")
		if err == nil || resp.StatusCode != http.StatusServiceUnavailable {
			t.Fatalf("one too many: %v %v", resp, err)
		}
		if after, _ := strconv.Atoi(resp.Header.Get("Retry-After")); after < 30 || after > 60 {
			t.Errorf("Retry-After %q", resp.Header.Get("Retry-After"))
		}
		if h.metric("rejected_total", "websocket", "auth") != 1 || h.metric("rejected_total", "websocket", "capacity") != 1 {
			t.Error("refusals are not counted")
		}
	})
}

func TestOneAgentTooManyIsUnavailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, opampsrv.Config{MaxAgents: 3, MaxAgentsPerConnection: 2})
		p, q := h.dial(), h.dial()
		for n := byte(1); n <= 2; n++ {
			if got := p.ask(full(n, 0)); got.GetErrorResponse() != nil {
				t.Errorf("agent %d got %v", n, got)
			}
		}
		if got := p.ask(full(3, 0)); got.GetErrorResponse() == nil {
			t.Error("a third agent on one connection was taken")
		}
		time.Sleep(2 * time.Second)
		for n := byte(4); n <= 5; n++ { // 4 takes the place that 3 left
			refused := q.ask(full(n, 0)).GetErrorResponse() != nil
			if refused != (n == 5) {
				t.Errorf("agent %d: refused %v", n, refused)
			}
		}
		if r := h.taken(); len(r) != 3 {
			t.Errorf("reports: %+v", r)
		}
	})
}

func TestServeRunsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, opampsrv.Config{})
		synctest.Wait()
		if err := h.srv.Serve(context.Background(), sim.NewPipe()); err == nil {
			t.Error("served twice")
		}
	})
	if _, err := opampsrv.New(opampsrv.Config{}); err == nil {
		t.Error("a server without OnReport was made")
	}
}
