module Distill.Tests.ExternalTests
