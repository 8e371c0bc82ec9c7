package models

import (
	"slices"
	"testing"
)

// TestGradientCheckpointing compares gradients, with dropout, to the bit.
func TestGradientCheckpointing(t *testing.T) {
	ids, shape := decoderIDs(t, "batches")
	cols := int(shape[2]) - 1
	texts := Batch{Rows: 2, Cols: cols, Lens: []int{cols, cols - 3}}
	for r := range texts.Rows {
		line := ids[r*(cols+1):][:cols+1]
		texts.IDs = append(texts.IDs, line[:cols]...)
		texts.Labels = append(texts.Labels, line[1:]...)
	}
	for i := texts.Cols + texts.Lens[1]; i < len(texts.Labels); i++ {
		texts.Labels[i] = Ignored
	}
	for _, name := range decoderNames(t) {
		compareCheckpointing(t, name, texts, func(t *testing.T, opts TrainOptions) Adaptable {
			m, err := Load(openDecoder(t, name))
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Train(decoderAdapter(t, name), opts); err != nil {
				t.Fatal(err)
			}
			if got := m.(*decoder).training.Checkpointing; got != opts.GradientCheckpointing {
				t.Errorf("checkpointing: %v", got)
			}
			return m
		})
	}
	for _, c := range taskRuns {
		r := openRun(t, c.model, c.run)
		compareCheckpointing(t, c.model+" "+c.run, r.batch(t, 0), func(t *testing.T, opts TrainOptions) Adaptable {
			m, _, err := r.load(r.base)
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Train(r.init, opts); err != nil {
				t.Fatal(err)
			}
			return m
		})
	}
}

func compareCheckpointing(t *testing.T, name string, b Batch, load func(*testing.T, TrainOptions) Adaptable) {
	t.Run(name, func(t *testing.T) {
		b.Seed = 11
		plain := load(t, TrainOptions{Dropout: 0.2})
		thrifty := load(t, TrainOptions{Dropout: 0.2, GradientCheckpointing: true})
		for range 2 { // the second time with used buffers
			for _, m := range []Adaptable{plain, thrifty} {
				if _, _, err := m.LossGrad(b, 0.25); err != nil {
					t.Fatal(err)
				}
			}
			for i, p := range plain.Params() {
				if !slices.Equal(p.Grad, thrifty.Params()[i].Grad) {
					t.Fatalf("the gradient of %s is another", p.Name)
				}
			}
		}
	})
}
