package opampsrv

import (
	"math"
	"strconv"
	"time"
	"unicode/utf8"
	"unique"

	"github.com/open-telemetry/opamp-go/protobufs"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

// Limits on what is kept of an agent's words.
const (
	maxText   = 1 << 10 // bytes of an error, a status or a label's value
	maxKey    = 256     // bytes of a label's key; longer ones are left out
	maxLabels = 256     // labels of one agent; the rest is left out
)

// report turns a message into our terms. Agent, Session and At are the caller's
// to fill in; parts the message does not have stay nil.
func report(m *protobufs.AgentToServer) fleet.Report {
	r := fleet.Report{Capabilities: fleet.Capabilities(m.GetCapabilities())}
	if d := m.GetAgentDescription(); d != nil {
		r.Labels = labels(d)
	}
	if s := m.GetRemoteConfigStatus(); s != nil {
		r.Remote = remoteStatus(s)
	}
	if h := m.GetHealth(); h != nil {
		r.Health = &fleet.Health{
			Healthy: h.GetHealthy(),
			Started: instant(h.GetStartTimeUnixNano()),
			Status:  cut(h.GetStatus()),
			Error:   cut(h.GetLastError()),
		}
	}
	if e := m.GetEffectiveConfig(); e != nil {
		r.Effective = effective(e.GetConfigMap().GetConfigMap())
	}
	return r
}

// labels merges both lists of attributes; the identifying ones win. Strings,
// booleans and numbers are kept as text, everything else is left out.
func labels(d *protobufs.AgentDescription) fleet.Labels {
	l := make(fleet.Labels, len(d.GetIdentifyingAttributes())+len(d.GetNonIdentifyingAttributes()))
	add := func(list []*protobufs.KeyValue) {
		for _, kv := range list {
			text, ok := labelText(kv.GetValue())
			key := kv.GetKey()
			if !ok || key == "" || len(key) > maxKey {
				continue
			}
			if _, dup := l[key]; !dup && len(l) < maxLabels {
				l[unique.Make(key).Value()] = text
			}
		}
	}
	add(d.GetIdentifyingAttributes())
	add(d.GetNonIdentifyingAttributes())
	return l
}

func labelText(v *protobufs.AnyValue) (string, bool) {
	switch v := v.GetValue().(type) {
	case *protobufs.AnyValue_StringValue:
		return cut(v.StringValue), true
	case *protobufs.AnyValue_BoolValue:
		return strconv.FormatBool(v.BoolValue), true
	case *protobufs.AnyValue_IntValue:
		return strconv.FormatInt(v.IntValue, 10), true
	case *protobufs.AnyValue_DoubleValue:
		return strconv.FormatFloat(v.DoubleValue, 'g', -1, 64), true
	}
	return "", false
}

func remoteStatus(s *protobufs.RemoteConfigStatus) *fleet.RemoteStatus {
	r := &fleet.RemoteStatus{Error: cut(s.GetErrorMessage())}
	if h := s.GetLastRemoteConfigHash(); len(h) > 0 {
		d, ours := fleet.ParseWire(h)
		r.Delivery, r.Foreign = d, !ours
	}
	switch s.GetStatus() {
	case protobufs.RemoteConfigStatuses_RemoteConfigStatuses_APPLIED:
		r.Status = fleet.Applied
	case protobufs.RemoteConfigStatuses_RemoteConfigStatuses_APPLYING:
		r.Status = fleet.Applying
	case protobufs.RemoteConfigStatuses_RemoteConfigStatuses_FAILED:
		r.Status = fleet.Failed
	default: // UNSET, and whatever a later protocol adds
		r.Status = fleet.Unset
	}
	return r
}

// effective keeps the identity and the size of an effective config, not its text.
func effective(files map[string]*protobufs.AgentConfigFile) *fleet.Effective {
	list := make([]fleet.File, 0, len(files))
	for name, f := range files {
		list = append(list, fleet.File{Name: name, ContentType: f.GetContentType(), Body: f.GetBody()})
	}
	c := fleet.NewConfig(list...)
	return &fleet.Effective{Hash: c.Hash, Size: c.Size()}
}

// instant is zero for 0 and for what no clock can mean.
func instant(nanos uint64) time.Time {
	if nanos == 0 || nanos > math.MaxInt64 {
		return time.Time{}
	}
	return time.Unix(0, int64(nanos))
}

// cut returns at most maxText bytes of s, whole characters only.
func cut(s string) string {
	if len(s) <= maxText {
		return s
	}
	n := maxText
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return string([]byte(s[:n])) // a copy: the rest is not kept alive
}
