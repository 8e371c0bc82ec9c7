package onnx

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	wire "github.com/seed-b982eded/graft/formats/onnx"
)

// TestCandidates finds at least the layers that agree with a module, and not all of many.
func TestCandidates(t *testing.T) {
	paths := []string{
		"", ".", "a.", ".b", "a..b", "_", "a_", "fc", "fc_1", "my_fc", "m.fc", "x.m.fc", "m_fc", "x_m_fc", "m.my_fc", "my.fc", "m.fc.0", "fc.0", "0",
		"self_attn", "attn", "l.self_attn.q", "l.attn.q", "attn.q", "l_self_attn_q", "l_attn_q", "self_attn_q", "attn_q", "model_l_self_attn_q",
		"model.l.self_attn.q", "model.l.attn.q", "q", "my_self_attn.q", "my_self_attn_q", "my_attn_q", "my.self_attn_q", "l.my_attn.q", "self_attn.self_attn",
		strings.Repeat("a.", 70) + "fc", strings.Repeat("a.", 69) + "fc", "a.fc", "a_fc", strings.Repeat("a_", 70) + "fc", strings.Repeat("a_", 300) + "fc",
	}
	var layers []*Layer
	for i, p := range paths {
		l := &Layer{Weight: &wire.Tensor{}, Evidence: []Evidence{{Rule: ruleNode, Path: p}}}
		if i%3 == 0 {
			l.Evidence = append(l.Evidence, Evidence{Rule: ruleBias, Path: paths[(i*7+5)%len(paths)]})
		}
		layers = append(layers, l)
	}
	c := newCandidates(layers)
	for _, module := range paths {
		found := c.of(module)
		at := 0
		for i, l := range layers {
			in := at < len(found) && found[at] == l
			if in {
				at++
			}
			if q, _, _ := l.agreesWith(module); q != none && !in {
				t.Errorf("%q: not found: layer %d, %v", module, i, l.Evidence)
			}
		}
		if at != len(found) {
			t.Errorf("%q: out of order, or found twice", module)
		}
	}

	layers[4].Weight = layers[9].Weight
	c = newCandidates(layers)
	if got := c.withWeight(layers[9].Weight); !slices.Equal(got, []*Layer{layers[4], layers[9]}) {
		t.Errorf("%d layers have the weight, want 2", len(got))
	}

	layers = nil
	for i := range 1000 {
		layers = append(layers, &Layer{Evidence: []Evidence{{Rule: ruleWeight, Path: fmt.Sprintf("m.layers.%d.fc", i)}, {Rule: ruleNode, Path: fmt.Sprintf("layers.%d.fc", i)}}})
	}
	c = newCandidates(layers)
	if found := c.of("model.m.layers.7.fc"); !slices.Equal(found, layers[7:8]) {
		t.Errorf("found %d layers, want the one", len(found))
	}
}

// TestFresh takes the first name that is free, whatever was asked for before.
func TestFresh(t *testing.T) {
	names := &nameSet{map[string]bool{"a": true, "a_2": true, "a_1_1": true}, map[string]int{}}
	for _, c := range [][2]string{{"b", "b"}, {"a", "a_1"}, {"a", "a_3"}, {"a_1", "a_1_2"}, {"a_4", "a_4"}, {"a", "a_5"}, {"b", "b_1"}, {"b_1", "b_1_1"}, {"b", "b_2"}, {"a_5", "a_5_1"}, {"", ""}, {"", "_1"}} {
		if got := fresh(names, c[0]); got != c[1] {
			t.Errorf("for %q: got %q, want %q", c[0], got, c[1])
		}
	}
}
