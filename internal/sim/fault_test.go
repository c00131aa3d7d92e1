package sim

import (
	"testing"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

func TestParseFaultReadsTheGrammar(t *testing.T) {
	canary := fleet.Labels{"ring": "canary", "service.name": "x", "url": "http://a:80"}
	bad := fleet.NewConfig(fleet.File{Body: []byte("exporters: {a, b: unknown_exporter}")}).Files
	for _, tc := range []struct {
		in      string
		fault   Fault
		after   time.Duration
		matches bool // canary and bad
		text    string
	}{
		{"refuse", Refuse, 0, true, "*:refuse"},
		{"ring=canary:refuse", Refuse, 0, true, "ring=canary:refuse"},
		{"ring=stable:refuse", Refuse, 0, false, "ring=stable:refuse"},
		{"*:sick=10s", Sick, 10 * time.Second, true, "*:sick=10s"},
		{"service.name=x:slow=2s", Slow, 2 * time.Second, true, "service.name=x:slow=2s"},
		{"service.name~=y:slow", Slow, 30 * time.Second, false, "service.name~=y:slow=30s"},
		{"config~=unknown:refuse", Refuse, 0, true, "contains(unknown):refuse"},
		{"contains(a, b: unk):refuse", Refuse, 0, true, "contains(a, b: unk):refuse"},
		{"contains(f(x)):offline=1m", Offline, time.Minute, false, "contains(f(x)):offline=1m0s"},
		{"ring=canary,contains(unknown_exporter):self-revert", SelfRevert, 5 * time.Second, true, "ring=canary,contains(unknown_exporter):self-revert=5s"},
		{"*:slow=0", Slow, 0, true, "*:slow=0s"},
		{"url=http://a:80:flapping=1s", Flapping, time.Second, true, "url=http://a:80:flapping=1s"},
	} {
		r, err := ParseFault(tc.in)
		if err != nil {
			t.Errorf("%s: %v", tc.in, err)
			continue
		}
		if r.Fault != tc.fault || r.After != tc.after || r.String() != tc.text {
			t.Errorf("%s: %v after %v, written %s", tc.in, r.Fault, r.After, r)
		}
		if got := r.matches(canary, bad); got != tc.matches {
			t.Errorf("%s: matches %v", tc.in, got)
		}
	}
	for _, in := range []string{"", "explode", "ring=canary", "=x:refuse", "ring=:refuse", "*:slow=", "*:slow=-1s", "contains(x:refuse", "contains():refuse", "config=x", "x:refuse", "contains(a)b:refuse"} {
		if r, err := ParseFault(in); err == nil {
			t.Errorf("%q was read as %s", in, r)
		}
	}
}

// FuzzParseFault: a rule that is read is written so that it is read the same.
func FuzzParseFault(f *testing.F) {
	for _, s := range []string{"ring=canary:refuse", "*:sick=10s", "contains(a,b:c):slow=1ms", "a~=b,config~=c:offline", "contains(("} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseFault(s)
		if err != nil {
			return
		}
		r.matches(fleet.Labels{"a": "b"}, nil)
		if faulty := r.String(); balanced(r) {
			again, err := ParseFault(faulty)
			if err != nil || again.String() != faulty {
				t.Errorf("%q became %q, which is read as %s (%v)", s, faulty, again, err)
			}
		}
	})
}

// balanced reports whether the rule's texts can stand in contains(...).
func balanced(r Rule) bool {
	for _, text := range r.contains {
		depth := 0
		for _, c := range text {
			switch c {
			case '(':
				depth++
			case ')':
				depth--
			}
			if depth < 0 {
				return false
			}
		}
		if depth != 0 {
			return false
		}
	}
	return true
}
