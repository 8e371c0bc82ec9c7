package main

import (
	"fmt"
	"math"
	"strings"

	"github.com/seed-b982eded/graft/patch/diff"
)

// scaleText writes a factor; one that is nearly 1 as how far it is from that.
func scaleText(c diff.Number) string {
	if gap := float64(c) - 1; gap != 0 && math.Abs(gap) < 1e-3 {
		return fmt.Sprintf("(1 %s %.2g)", verb(1+count(gap < 0), "+", "-"), math.Abs(gap))
	}
	return fmt.Sprintf("%.6g", float64(c))
}

func kindText(kind string) string {
	switch kind {
	case "onnx":
		return "an ONNX model"
	case "adapter":
		return "an adapter"
	}
	return "a checkpoint"
}

// arrow is two texts, or one where they are the same.
func arrow(a, b string) string {
	if a == b {
		return a
	}
	return a + " → " + b
}

// valueText is a config's value, cut to a width.
func valueText(raw []byte) string {
	if raw == nil {
		return "–"
	}
	runes := []rune(string(raw))
	if len(runes) > maxValue {
		return string(runes[:maxValue]) + "…"
	}
	return string(runes)
}

// short writes a number with four digits.
func short(x float64) string {
	switch {
	case math.IsNaN(x):
		return "–"
	case math.IsInf(x, 0):
		return "∞"
	}
	return fmt.Sprintf("%.4g", x)
}

// cosineText writes a cosine; one that is nearly 1 or −1 as how far it is from that.
func cosineText(c diff.Number) string {
	x := float64(c)
	switch gap := 1 - math.Abs(x); {
	case gap < 1e-14: // rounding
		return short(math.Copysign(1, x))
	case gap < 5e-5:
		return fmt.Sprintf("%s(1 - %.0e)", strings.Repeat("-", count(x < 0)), gap)
	}
	return short(x)
}

func relativeText(relative, distance diff.Number) string {
	if math.IsInf(float64(relative), 0) {
		return fmt.Sprintf("%s from zero", short(float64(distance)))
	}
	return fmt.Sprintf("%s of A's norm", short(float64(relative)))
}

func fraction(x float64) string {
	if math.IsNaN(x) {
		return "–"
	}
	return fmt.Sprintf("%.2f", x)
}

// share writes a count and what part of the whole it is.
func share(n, of int64) string {
	percent := 100 * float64(n) / float64(of)
	switch {
	case n == of:
		return countText(n) + " (all)"
	case percent < 10:
		return fmt.Sprintf("%s (%.2g %%)", countText(n), percent)
	case percent < 99:
		return fmt.Sprintf("%s (%.0f %%)", countText(n), percent)
	}
	return fmt.Sprintf("%s (%.1f %%)", countText(n), min(percent, 99.9))
}

func verb(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

func allOf(n int, thing string) string {
	if n == 1 {
		return "the one " + thing
	}
	return "all " + countOf(n, thing)
}

func someOf(n, of int, thing string) string {
	if n == of {
		return allOf(n, thing)
	}
	return fmt.Sprintf("%s of %s", countText(int64(n)), countOf(of, thing))
}
