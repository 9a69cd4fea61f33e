-- What a model says of itself goes by the endpoint's name, ENDPOINT above this text: clients such as
-- perf_analyzer ask on by the name that they are told.
function envoy_on_response(handle)
  local body = handle:body()
  if not body then return end
  local said, changed = body:getBytes(0, body:length()):gsub('^{"name":"[^"]*"', '{"name":"' .. ENDPOINT .. '"')
  if changed == 1 then handle:headers():replace("content-length", body:setBytes(said)) end
end
