{{- define "lastwords.name" -}}
{{- if contains "lastwords" .Release.Name -}}{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else -}}{{ printf "%s-lastwords" (.Release.Name | trunc 40 | trimSuffix "-") }}{{- end -}}
{{- end -}}

{{- define "lastwords.selector" -}}
app.kubernetes.io/name: lastwords
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "lastwords.labels" -}}
{{ include "lastwords.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{- define "lastwords.image" -}}
{{ .root.Values.image.registry }}/{{ .program }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}
{{- end -}}

{{- /* What a NetworkPolicy lets in for Prometheus. */}}
{{- define "lastwords.scraped" -}}
{{- if .Values.metrics.enabled -}}
- ports:
    - port: metrics
  {{- with .Values.metrics.from }}
  from:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
{{- end -}}
