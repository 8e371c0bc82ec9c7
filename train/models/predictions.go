package models

// Predictions are what a model says about the texts of a batch, beside what is right: the
// classes of single labels, a yes or no for each label of each text (Outputs of them a
// text), or numbers.
type Predictions struct {
	Classes, RightClasses []int32
	Labels, RightLabels   []bool
	Outputs               int
	Numbers, RightNumbers []float64
}

// addLabels takes what has a probability above one half.
func (p *Predictions) addLabels(predicted []bool, right []float32, outputs int) {
	p.Labels, p.Outputs = append(p.Labels, predicted...), outputs
	for _, x := range right {
		p.RightLabels = append(p.RightLabels, x > 0.5)
	}
}

// addClasses leaves out rows without a label.
func (p *Predictions) addClasses(predicted, right []int32) {
	for i, c := range predicted {
		if right[i] != Ignored {
			p.Classes, p.RightClasses = append(p.Classes, c), append(p.RightClasses, right[i])
		}
	}
}

func (p *Predictions) addNumbers(predicted, right []float32) {
	for i, x := range predicted {
		p.Numbers, p.RightNumbers = append(p.Numbers, float64(x)), append(p.RightNumbers, float64(right[i]))
	}
}

// Add appends the predictions of another batch.
func (p *Predictions) Add(q Predictions) {
	p.Classes, p.RightClasses = append(p.Classes, q.Classes...), append(p.RightClasses, q.RightClasses...)
	p.Labels, p.RightLabels = append(p.Labels, q.Labels...), append(p.RightLabels, q.RightLabels...)
	p.Outputs = max(p.Outputs, q.Outputs)
	p.Numbers, p.RightNumbers = append(p.Numbers, q.Numbers...), append(p.RightNumbers, q.RightNumbers...)
}
