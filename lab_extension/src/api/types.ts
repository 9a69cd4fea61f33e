/** The API's nouns, by the names the panel uses. Generated from the control plane's OpenAPI document. */
import type { components } from './generated';

type Schemas = components['schemas'];

export type Discovery = Schemas['Discovery'];
export type WhoAmI = Schemas['WhoAmI'];
export type BudgetLine = Schemas['BudgetLine'];
export type Run = Schemas['RecentRun'];
export type Endpoint = Schemas['Endpoint'];
export type Rollout = Schemas['Rollout'];
export type Release = Schemas['Release'];
export type StepVerdict = Schemas['StepVerdict'];
export type GateResult = Schemas['GateResult'];
export type Quality = Schemas['Quality'];
export type EndpointCaller = Schemas['EndpointCaller'];
export type Prediction = Schemas['Prediction'];
export type Agreement = Schemas['Agreement'];
export type Apart = Schemas['Apart'];
export type Times = Schemas['Times'];
export type Effect = Schemas['Effect'];
export type Arm = Schemas['Arm'];
export type Column = Release['signature']['outputs'][number];
export type LogLosses = Schemas['LogLosses'];
export type FeatureView = Schemas['ViewLine'];
export type Sketch = Schemas['Sketch'];
export type FeatureSketch = Schemas['FeatureSketch'];
export type Schedule = Schemas['Schedule'];
export type Job = Schemas['Job'];
