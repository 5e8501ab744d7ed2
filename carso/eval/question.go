package eval

import (
	"encoding/json"
	"fmt"

	"carsokit/carso"
	"carsokit/carso/record"
)

// QuestionOf is the question that a record answers, with its number of images left to the scale: [NewJob] on the same data, weights and backend gives a
// job of the same key.
func QuestionOf(s record.Spec) (Question, error) {
	q := Question{Scenario: s.Scenario, Row: s.Row, Column: s.Column, Scale: s.Scale, Eps: s.Eps, Seed: s.Seed, Screen: s.Settings().Screened, Index: s.Index}
	var defence struct {
		Samples int               `json:"samples"`
		Decides carso.Aggregation `json:"decides"`
	}
	var attack struct {
		Decides string `json:"decides"`
	}
	if err := json.Unmarshal(s.Defence, &defence); err != nil {
		return q, fmt.Errorf("reading the defence of %s: %w", s.FileName(), err)
	}
	if len(s.Attack) > 0 {
		if err := json.Unmarshal(s.Attack, &attack); err != nil {
			return q, fmt.Errorf("reading the attack of %s: %w", s.FileName(), err)
		}
	}
	p, _, err := q.protocol()
	if err != nil {
		return q, err
	}
	q.Samples, q.Decides = defence.Samples, defence.Decides
	if attack.Decides != "" && attack.Decides != p.Decides {
		q.Decides = carso.Aggregation(attack.Decides)
	}
	if len(p.Stages) > 0 {
		text, err := json.Marshal(p)
		if err != nil {
			return q, fmt.Errorf("describing the usual attack of %s: %w", s.FileName(), err)
		}
		have, usual := s.Settings(), record.Spec{Defence: s.Defence, Attack: text}.Settings()
		if have.Steps != usual.Steps {
			q.Steps = have.Steps
		}
		if have.EoT != usual.EoT {
			q.EoT = have.EoT
		}
	}
	return q, nil
}
