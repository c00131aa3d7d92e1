package fleet_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
	"pgregory.net/rapid"
)

func anyAgentID(t *rapid.T) fleet.AgentID {
	return fleet.AgentID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
}

func anyHash(t *rapid.T) fleet.Hash {
	return fleet.Hash(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "hash"))
}

func TestAgentIDSurvivesText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := anyAgentID(t)
		back, err := fleet.ParseAgentID(id.String())
		if err != nil || back != id {
			t.Fatalf("%s came back as %s, %v", id, back, err)
		}
	})
}

func TestAgentIDRefusesOtherTexts(t *testing.T) {
	for _, text := range []string{
		"", "0192f0c1-7a2b-7c3d-8e4f", "0192f0c17a2b7c3d8e4f5a6b7c8d9e0f",
		"0192f0c1-7a2b-7c3d-8e4f-5a6b7c8d9e0g", "{192f0c1-7a2b-7c3d-8e4f-5a6b7c8d9e0f}",
	} {
		if id, err := fleet.ParseAgentID(text); err == nil {
			t.Errorf("%q was read as %s", text, id)
		}
	}
}

func TestAgentIDOrderIsThatOfItsText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := anyAgentID(t), anyAgentID(t)
		if got, want := a.Compare(b), bytes.Compare([]byte(a.String()), []byte(b.String())); got != want {
			t.Fatalf("Compare(%s, %s) = %d, texts say %d", a, b, got, want)
		}
	})
}

func TestDeliverySurvivesTheWire(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := fleet.Delivery{Config: anyHash(t), Attempt: rapid.Uint32().Draw(t, "attempt")}
		back, ok := fleet.ParseWire(d.Wire())
		if ok == d.IsZero() || ok && back != d {
			t.Fatalf("%v came back as %v, %v", d, back, ok)
		}
	})
}

func FuzzParseWire(f *testing.F) {
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{7}, 32))
	f.Add(bytes.Repeat([]byte{7}, 36))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, ok := fleet.ParseWire(b)
		if ok && !bytes.Equal(d.Wire(), b) {
			t.Fatalf("%x was read as %v, which is %x", b, d, d.Wire())
		}
	})
}

func TestHashSurvivesJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := anyHash(t)
		text, err := json.Marshal(h)
		if err != nil {
			t.Fatal(err)
		}
		var back fleet.Hash
		if err := json.Unmarshal(text, &back); err != nil || back != h {
			t.Fatalf("%s came back as %s, %v", text, back, err)
		}
	})
}

// Identity is content: the order of the files is not part of it, every byte of a
// name, a content type or a body is, and nothing can move from one into the next.
func TestConfigHashIsContent(t *testing.T) {
	a := fleet.File{Name: "a.yaml", ContentType: "text/yaml", Body: []byte("x")}
	b := fleet.File{Name: "b.yaml", ContentType: "text/yaml", Body: []byte("y")}
	base := fleet.NewConfig(a, b).Hash
	if got := fleet.NewConfig(b, a).Hash; got != base {
		t.Errorf("the order of the files changed the hash")
	}
	for what, other := range map[string][]fleet.File{
		"a body":             {a, {Name: "b.yaml", ContentType: "text/yaml", Body: []byte("z")}},
		"a name":             {a, {Name: "c.yaml", ContentType: "text/yaml", Body: []byte("y")}},
		"a content type":     {a, {Name: "b.yaml", ContentType: "text/json", Body: []byte("y")}},
		"a missing file":     {a},
		"bytes that moved":   {a, {Name: "b.yamlt", ContentType: "ext/yaml", Body: []byte("y")}},
		"type to body moved": {a, {Name: "b.yaml", ContentType: "text/yam", Body: []byte("ly")}},
	} {
		if fleet.NewConfig(other...).Hash == base {
			t.Errorf("%s did not change the hash", what)
		}
	}
}
