package jinja

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// TestHostileTemplates renders what would take memory or time without end, or break out.
func TestHostileTemplates(t *testing.T) {
	loop := "{% for a in range(99999) %}{% for b in range(99999) %}"
	deep := strings.Repeat("[", 5000)
	for name, source := range map[string]string{
		"nested loops":       loop + "{% endfor %}{% endfor %}",
		"nested loops, text": loop + "xxxxxxxxxxxxxxxx{% endfor %}{% endfor %}",
		"doubling text":      "{% set ns = namespace(s='x') %}{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
		"doubling lists":     "{% set ns = namespace(s=[1]) %}{% for i in range(99) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
		"repeated text":      "{{ 'x' * 99999999999 }}",
		"repeated list":      "{{ [1] * 99999999999 }}",
		"replaced":           "{% set s = 'x' * 9999 %}{{ s.replace('x', s).replace('x', s) }}",
		"wide":               "{{ 'a\nb' | indent(99999999999) }}",
		"justified":          "{{ 'a'.ljust(99999999999) }}",
		"format":             "{{ '%99999999999d' % 1 }}",
		"recursion":          "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
		"callers":            "{% macro m() %}{% call m() %}{{ caller }}{% endcall %}{{ caller() }}{% endmacro %}{% call m() %}{% endcall %}",
		"power":              "{{ 9 ** 9 ** 9 ** 9 }}",
		"deep value":         "{% set ns = namespace(s=[]) %}{% for i in range(9999) %}{% set ns.s = [ns.s] %}{% endfor %}{{ ns.s }}",
		"deep value as JSON": "{% set ns = namespace(s=[]) %}{% for i in range(9999) %}{% set ns.s = [ns.s] %}{% endfor %}{{ ns.s | tojson }}",
		"deep values equal":  "{% set ns = namespace(s=[], t=[]) %}{% for i in range(9999) %}{% set ns.s = [ns.s] %}{% set ns.t = [ns.t] %}{% endfor %}{{ ns.s == ns.t }}",
		"deep source":        "{{ " + deep,
		"deep minus":         "{{ " + strings.Repeat("-", 5000) + "1 }}",
		"deep not":           "{{ " + strings.Repeat("not ", 5000) + "1 }}",
		"long sum":           "{{ 1" + strings.Repeat(" + 1", 50000) + " }}",
		"long attributes":    "{{ a" + strings.Repeat(".b", 50000) + " }}",
		"long filters":       "{{ 'a'" + strings.Repeat("|trim", 50000) + " }}",
		"deep blocks":        strings.Repeat("{% if true %}", 5000),
		"many elifs":         "{% if 0 %}" + strings.Repeat("{% elif 0 %}", 50000) + "{% endif %}",
		"large":              strings.Repeat("x", maxSource+1),
	} {
		text, err := render(t, source, nil)
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("%s: %.80q, %v", name, text, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p, err := Parse(loop + "{% endfor %}{% endfor %}")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.Render(ctx, nil, now); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// A template sees today's date only if it was given one.
func TestNoDate(t *testing.T) {
	p, err := Parse("{{ strftime_now('%Y') }}")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.Render(t.Context(), nil, time.Time{}); err == nil || !strings.Contains(err.Error(), "no date") {
		t.Errorf("got %v", err)
	}
}

// FuzzRender checks that no template panics, and that errors name a line.
func FuzzRender(f *testing.F) {
	for _, s := range []string{"{{ a.b['c'][1:] | join(', ') }}", "{% for x in xs if x %}{{ loop.last }}{% else %}b{% endfor %}", "{%- macro m(a=1) -%}{{ caller() }}{% endmacro %}{% call(x) m() %}{% endcall %}",
		"{% set ns = namespace(a=1) %}{% set ns.a = '%s' % (1,) %}", "{% raw -%} {{ {% endraw %}", "{% filter upper %}{# x -#}{% endfilter %}{% generation %}{% endgeneration %}", "{{ '\\x41\\u00e9' 'b' ~ 1e5 // 2 ** -1 is not odd }}"} {
		f.Add(s)
	}
	vars := map[string]any{"xs": List{int64(1), "a", nil}, "s": "Hällo", "messages": List{NewDict()}}
	f.Fuzz(func(t *testing.T, source string) {
		p, err := Parse(source)
		if err == nil {
			_, _, err = p.Render(t.Context(), vars, now)
		}
		var e *Error
		if err != nil && (!errors.As(err, &e) || e.Line < 1) {
			t.Fatalf("error %#v", err)
		}
	})
}
