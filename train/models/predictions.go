package models

// Predictions are what a model says about the texts of a batch, beside what is right: the
// classes of single labels, or numbers. Of multi-label classification there are none.
type Predictions struct {
	Classes, RightClasses []int32
	Numbers, RightNumbers []float64
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
	p.Numbers, p.RightNumbers = append(p.Numbers, q.Numbers...), append(p.RightNumbers, q.RightNumbers...)
}
