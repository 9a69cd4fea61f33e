-- Tells the transformer for which release it looks features up. RELEASE is defined above this text.
function envoy_on_request(handle)
  handle:headers():replace("x-release", RELEASE)
end
